//! Key rotation under load and faults, with the steps of docs/operations.md.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::{ConnectError, ConnectErrorKind};
use concert_tests::binaries;
use tokio::time::Instant;

use crate::cluster::{Cluster, Part};

/// The purposes of keys.
const PURPOSES: [&str; 3] = ["seal", "session", "edge"];
/// The services with a NATS user each.
const USERS: [&str; 10] = [
    "edge",
    "router",
    "profile",
    "sessioning",
    "library",
    "focusstats",
    "textsettings",
    "annotation",
    "likertsurvey",
    "archive",
];

/// Returns whether a role reads the keys of a purpose.
fn reads(role: &str, purpose: &str) -> bool {
    match purpose {
        "seal" => !["router", "archive"].contains(&role),
        "session" => role == "sessioning",
        purpose => role == purpose,
    }
}

/// Maximum time for every process to load a new key. A process that cannot reach a server at start
/// exits after more than a minute and is restarted.
const KNOWN: Duration = Duration::from_secs(120);
/// Maximum time for a server to accept a new user key or to reject an old one.
const LET_IN: Duration = Duration::from_secs(60);
/// Poll interval.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Adds a key for some purpose, and uses it once every process has loaded it; returns the purpose.
///
/// # Errors
/// A process does not load it, or a command fails.
pub async fn rotate(cluster: &Cluster, rng: &mut fastrand::Rng) -> anyhow::Result<String> {
    let purpose = rng.choice(PURPOSES).context("no purpose")?;
    let _alone = cluster.rotating.lock().await;
    let id = change(cluster, &["add", purpose]).await?;
    let added = Instant::now();
    let (file, id) = (format!("file=\"{purpose}.key\""), id.trim());
    for part in cluster.parts.iter().filter(|part| reads(part.role, purpose)) {
        while !knows(cluster, part, &file, id, added).await? {
            ensure!(added.elapsed() < KNOWN, "{} did not load {purpose} {id} in time", part.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    change(cluster, &["use", purpose, id]).await?;
    Ok(format!("{purpose} {id}"))
}

/// Returns whether a process reported the key, or started late enough to have loaded it at start.
async fn knows(
    cluster: &Cluster,
    part: &Part,
    file: &str,
    id: &str,
    added: Instant,
) -> anyhow::Result<bool> {
    let quoted = format!("\"{id}\"");
    let log = String::from_utf8_lossy(&std::fs::read(cluster.log(part))?).into_owned();
    let printed = log.lines().any(|line| line.contains(file) && line.contains(&quoted));
    Ok(printed || cluster.started_after(part, added).await)
}

/// Replaces the key of a NATS user, and removes the old ones; returns the user.
///
/// # Errors
/// A server rejects the new key or accepts an old one, or a command fails.
pub async fn rotate_user(cluster: &Cluster, rng: &mut fastrand::Rng) -> anyhow::Result<String> {
    let user = rng.choice(USERS).context("no user")?;
    let _alone = cluster.rotating.lock().await;
    let seeds = cluster.bus.seeds(user);
    let (name, old) = (format!("nats/{user}"), std::fs::read_to_string(&seeds)?);
    let dropped = ids(&change(cluster, &["list"]).await?, &name);
    let id = change(cluster, &["add", &name]).await?;
    cluster.servers.lock().await.reload_nats();
    let new = std::fs::read_to_string(&seeds)?;
    let new = new.lines().last().context("no seed")?;
    let began = Instant::now();
    while let Err(error) = cluster.bus.connect_with(new).await {
        ensure!(began.elapsed() < LET_IN, "{user} cannot connect with{id}: {error}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    change(cluster, &["use", &name, id.trim()]).await?;
    for id in &dropped {
        change(cluster, &["drop", &name, id]).await?;
    }
    cluster.servers.lock().await.reload_nats();
    let began = Instant::now();
    while !are_refused(cluster, &old).await {
        ensure!(began.elapsed() < LET_IN, "an old key of {user} is still accepted");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(user.to_owned())
}

/// Returns whether each server rejects all of these seeds.
async fn are_refused(cluster: &Cluster, seeds: &str) -> bool {
    for server in cluster.bus.servers() {
        for seed in seeds.lines() {
            let refused = cluster.bus.connect_to(&[server], seed).await.is_err_and(|error| {
                error
                    .downcast_ref::<ConnectError>()
                    .is_some_and(|error| error.kind() == ConnectErrorKind::AuthorizationViolation)
            });
            if !refused {
                return false;
            }
        }
    }
    true
}

/// Runs `concert keys …`; returns its output after the purpose.
async fn change(cluster: &Cluster, args: &[&str]) -> anyhow::Result<String> {
    let printed = binaries::finished(cluster.concert().arg("keys").args(args)).await?;
    Ok(match args {
        ["add", name] => printed.trim_start_matches(name).to_owned(),
        _ => printed,
    })
}

/// The ids of the keys of a purpose, from a list of all.
fn ids(listed: &str, name: &str) -> Vec<String> {
    let fields = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields.first() == Some(&name))
        .filter_map(|fields| fields.get(1).map(|id| (*id).to_owned()))
        .collect()
}
