//! A password change, a deletion and a disabled account end the sessions of logins in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use concert_tests::{System, http};
use mongodb::bson::{Document, doc};
use serde_json::json;
use tokio::task::JoinSet;

const OLD: &str = "correct horse battery";
const NEW: &str = "another horse battery";
/// Logins at the same time.
const THREADS: usize = 6;
/// Logins that succeed before the password is changed.
const LOGINS: usize = 12;

/// Trials with a change and with a deletion each; `CONCERT_EVICTION_TRIALS=200` runs more.
#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of Concert")]
fn trials() -> usize {
    let trials = std::env::var("CONCERT_EVICTION_TRIALS").ok();
    trials.and_then(|trials| trials.parse().ok()).unwrap_or(10)
}

/// Starts a system without limits on logins, since every loop ends with a failed one.
async fn start() -> anyhow::Result<System> {
    System::with(&[
        ("CONCERT_WORKERS__PROFILE__SETTINGS__LOGIN_ACCOUNT_FAILURES", "0"),
        ("CONCERT_WORKERS__PROFILE__SETTINGS__LOGIN_CLIENT_FAILURES", "0"),
        ("CONCERT_WORKERS__PROFILE__SETTINGS__ACCOUNTS_PER_CLIENT", "0"),
        ("CONCERT_WORKERS__SESSIONING__SETTINGS__MAX_SESSIONS", "100000"),
    ])
    .await
}

async fn live(system: &System, user: &str) -> anyhow::Result<u64> {
    let sessions = system.database("sessioning").await?.collection::<Document>("sessions");
    let live = doc! { "user": user, "ended": { "$exists": false } };
    Ok(sessions.count_documents(live).await?)
}

/// Logs in with the old password until it is refused, in several tasks, and makes a request in the
/// meantime. Returns the status and the body of its response.
async fn attack(
    system: &System,
    name: &str,
    path: &str,
    body: serde_json::Value,
) -> anyhow::Result<http::Answer> {
    let made = Arc::new(AtomicUsize::new(0));
    let mut logins = JoinSet::new();
    for _ in 0..THREADS {
        let (address, made) = (system.address(), made.clone());
        let body = json!({ "username": name, "password": OLD });
        logins.spawn(async move {
            loop {
                let answer = http::post(address, "/api/auth/login", &body).await?;
                match answer.status {
                    200 => made.fetch_add(1, Ordering::Relaxed),
                    401 => return Ok(()),
                    _ => anyhow::bail!("{answer:?}"),
                };
            }
        });
    }
    let enough = async |_: &System| Ok((made.load(Ordering::Relaxed) >= LOGINS).then_some(()));
    system.until("some logins succeed", enough).await?;
    let answer = system.post(path, &body).await?;
    while let Some(login) = logins.join_next().await {
        login??;
    }
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn password_change_leaves_no_session_of_the_old_password() -> anyhow::Result<()> {
    let system = start().await?;
    for trial in 0..trials() {
        let name = format!("ada{trial}");
        let user = system.account(&name, OLD).await?;
        let session = system.login(&name, OLD).await?;
        let body = json!({ "session": session, "oldPassword": OLD, "newPassword": NEW });
        let changed = attack(&system, &name, "/auth/changePassword", body).await?;
        assert_eq!(changed.status, 200, "{changed:?}");
        assert_eq!(live(&system, &user).await?, 1, "trial {trial}: only the new session is live");
        let fresh = json!({ "session": changed.text("session")? });
        assert_eq!(system.post("/auth/whoami", &fresh).await?.status, 200, "trial {trial}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn account_deletion_leaves_no_session() -> anyhow::Result<()> {
    let system = start().await?;
    for trial in 0..trials() {
        let name = format!("bob{trial}");
        let user = system.account(&name, OLD).await?;
        let session = system.login(&name, OLD).await?;
        let body = json!({ "session": session, "password": OLD });
        let deleted = attack(&system, &name, "/auth/deleteAccount", body).await?;
        assert_eq!(deleted.status, 200, "{deleted:?}");
        assert_eq!(live(&system, &user).await?, 0, "trial {trial}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_account_has_no_session_and_no_login() -> anyhow::Result<()> {
    let system = start().await?;
    let user = system.account("eve", OLD).await?;
    let session = json!({ "session": system.login("eve", OLD).await? });
    let account = async |command: &str| {
        let done = system.concert(&["account", command, "eve"]).output().await?;
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        anyhow::ensure!(done.status.success(), "{text}");
        anyhow::Ok(())
    };
    account("end-sessions").await?;
    assert_eq!(system.post("/auth/whoami", &session).await?.status, 401);
    let session = json!({ "session": system.login("eve", OLD).await? });
    account("disable").await?;
    assert_eq!(system.post("/auth/whoami", &session).await?.status, 401);
    assert_eq!(live(&system, &user).await?, 0);
    let credentials = json!({ "username": "eve", "password": OLD });
    assert_eq!(system.post("/auth/login", &credentials).await?.status, 401);
    account("enable").await?;
    assert_eq!(system.post("/auth/login", &credentials).await?.status, 200);
    let missing = system.concert(&["account", "disable", "nobody"]).output().await?;
    assert!(!missing.status.success());
    Ok(())
}
