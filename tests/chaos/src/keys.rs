//! Keys that are changed while everything runs and breaks, as docs/operations.md says that one
//! does.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::{ConnectError, ConnectErrorKind};
use concert_tests::binaries;
use tokio::time::Instant;

use crate::cluster::{Cluster, Part};

/// The keys of one purpose, and the roles that read them.
const PURPOSES: [(&str, &[&str]); 3] = [
    ("seal", &["edge", "profile", "sessioning"]),
    ("session", &["sessioning"]),
    ("edge", &["edge"]),
];
/// The services that have a user of the bus each.
const USERS: [&str; 5] = ["edge", "router", "profile", "sessioning", "archive"];

/// How long every process may take to know a new key: one that cannot reach a server at its start
/// ends after more than a minute, and is started again.
const KNOWN: Duration = Duration::from_secs(120);
/// How long a server may take to let somebody in, or no longer.
const LET_IN: Duration = Duration::from_secs(60);
/// How often one looks whether it is so.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Uses a new key of some purpose for what is new, once every process knows it; which one.
///
/// # Errors
/// A process does not come to know it, or a command ends badly.
pub async fn rotate(cluster: &Cluster, rng: &mut fastrand::Rng) -> anyhow::Result<String> {
    let (purpose, roles) = rng.choice(PURPOSES).context("no purpose")?;
    let _alone = cluster.rotating.lock().await;
    let id = change(cluster, &["add", purpose]).await?;
    let added = Instant::now();
    let (file, id) = (format!("file=\"{purpose}.key\""), id.trim());
    for part in cluster.parts.iter().filter(|part| roles.contains(&part.role)) {
        while !knows(cluster, part, &file, id, added).await? {
            ensure!(added.elapsed() < KNOWN, "{} does not come to know {purpose} {id}", part.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    change(cluster, &["use", purpose, id]).await?;
    Ok(format!("{purpose} {id}"))
}

/// Whether a process has said that it has a key, or began to run so late that it has it from its
/// start.
async fn knows(
    cluster: &Cluster,
    part: &Part,
    file: &str,
    id: &str,
    added: Instant,
) -> anyhow::Result<bool> {
    let quoted = format!("\"{id}\"");
    let log = String::from_utf8_lossy(&std::fs::read(cluster.log(part))?).into_owned();
    let told = log.lines().any(|line| line.contains(file) && line.contains(&quoted));
    Ok(told || cluster.started_after(part, added).await)
}

/// Gives a user of the bus another key, and takes the old ones away; which user.
///
/// # Errors
/// A server does not let the new one in, or still lets in an old one, or a command ends badly.
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
        ensure!(began.elapsed() < LET_IN, "{user} is not let in with{id}: {error}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    change(cluster, &["use", &name, id.trim()]).await?;
    for id in &dropped {
        change(cluster, &["drop", &name, id]).await?;
    }
    cluster.servers.lock().await.reload_nats();
    let began = Instant::now();
    while !are_refused(cluster, &old).await {
        ensure!(began.elapsed() < LET_IN, "an old key of {user} still lets in who has it");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(user.to_owned())
}

/// Whether each server says of each of some seeds that it does not know it.
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

/// Carries out `concert keys …`; what it says after the keys' name.
async fn change(cluster: &Cluster, args: &[&str]) -> anyhow::Result<String> {
    let told = binaries::finished(cluster.concert().arg("keys").args(args)).await?;
    Ok(match args {
        ["add", name] => told.trim_start_matches(name).to_owned(),
        _ => told,
    })
}

/// The ids of some keys, of a list of all.
fn ids(listed: &str, name: &str) -> Vec<String> {
    let fields = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields.first() == Some(&name))
        .filter_map(|fields| fields.get(1).map(|id| (*id).to_owned()))
        .collect()
}
