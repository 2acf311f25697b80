//! More logins than the CPU can hash: some are rejected immediately, the others are answered in
//! time, and other paths are not affected.

use concert_tests::{System, http};
use serde_json::json;

const PASSWORD: &str = "correct horse battery";
/// Many more than are accepted.
const FLOOD: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn login_flood_is_partly_refused_and_the_rest_is_answered() -> anyhow::Result<()> {
    // Password hashes at their production cost, and few request slots.
    let system = System::with(&[
        ("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_MEMORY_KIB", "19456"),
        ("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_PASSES", "2"),
        ("CONCERT_HTTP__MIN_REQUESTS_PER_PATH", "8"),
        ("CONCERT_HTTP__MAX_WAIT_MS", "500"),
    ])
    .await?;
    system.account("ada", PASSWORD).await?;
    let login = json!({ "username": "ada", "password": PASSWORD });
    let address = system.address();
    let flood: Vec<_> = (0..FLOOD)
        .map(|_| {
            let login = login.clone();
            tokio::spawn(async move { http::post(address, "/api/auth/login", &login).await })
        })
        .collect();
    // Another path has its own request slots.
    for number in 0..20 {
        let answer = system
            .post("/auth/logout", &json!({ "session": format!("nobody's {number}") }))
            .await?;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    let (mut answered, mut refused) = (0, 0);
    for login in flood {
        let answer = login.await??;
        match answer.status {
            200 => answered += 1,
            503 => {
                refused += 1;
                assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
                assert_eq!(answer.headers["concert-answered-by"], "edge");
                assert!(
                    !answer.headers.contains_key("concert-flow"),
                    "a rejected request has a flow"
                );
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert!(answered >= 8 && refused > 0, "{answered} answered, {refused} refused");
    // Only accepted requests are in the log.
    system.routed().await?;
    let requests = system.stream_messages("COMPLETIONS", "done.*.Requesting.request.*").await?;
    let logins = requests.iter().filter(|(_, body)| body["input"]["path"] == "/auth/login").count();
    assert_eq!(logins, answered);
    // The flood has ended, and the system accepts logins again.
    system.login("ada", PASSWORD).await?;
    Ok(())
}
