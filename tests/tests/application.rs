//! An application outside the repository: a separate program with its own concept.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::{binaries, http, running};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

const STOP: Duration = Duration::from_secs(60);

/// Copies the example to a directory whose only link to the repository is paths in `Cargo.toml`.
fn copy(to: &Path) -> anyhow::Result<()> {
    let example = binaries::root().join("examples/labels");
    let files = [
        "concert.toml",
        "concepts/Label.concept",
        "syncs/accounts.sync",
        "syncs/labels.sync",
        "src/main.rs",
        "src/label.rs",
    ];
    for dir in ["concepts", "syncs", "src"] {
        std::fs::create_dir(to.join(dir))?;
    }
    for file in files {
        std::fs::copy(example.join(file), to.join(file)).context(file)?;
    }
    let root = binaries::root().canonicalize()?;
    let manifest = std::fs::read_to_string(example.join("Cargo.toml"))?;
    let manifest = manifest.replace("../..", &root.display().to_string());
    // The same profiles and versions, so that cargo reuses compiled dependencies.
    let workspace = std::fs::read_to_string(root.join("Cargo.toml"))?;
    let profiles = workspace.find("[profile.").context("profiles")?;
    let (_, profiles) = workspace.split_at(profiles);
    let packages =
        profiles.replace("[profile.dev.package.concert-simulation]\nopt-level = 2\n", "");
    std::fs::write(to.join("Cargo.toml"), format!("{manifest}\n[workspace]\n\n{packages}"))?;
    std::fs::copy(root.join("Cargo.lock"), to.join("Cargo.lock"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn application_outside_the_repository_builds_and_runs() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    copy(dir.path())?;
    let programs = binaries::dir().await?;
    let target = programs.parent().context("a target directory")?;
    let mut build = binaries::cargo();
    build.current_dir(dir.path()).args(["build", "--quiet"]).env("CARGO_TARGET_DIR", target);
    binaries::finished(&mut build).await?;
    let program = target.join("debug/labels");
    let command = || -> Command {
        let mut command = binaries::command(&program);
        command.current_dir(dir.path());
        command
    };

    let checked = binaries::finished(command().args(["check", "--deny-warnings"])).await?;
    ensure!(checked.contains("4 concepts"), "{checked}");

    let settings = ["workers.Profile.settings.argon2_memory_kib=64"];
    let (mut child, address) = running::up(command(), dir.path(), &settings).await?;
    let post =
        async |path: &str, body: Value| http::post(address, &format!("/api{path}"), &body).await;

    let ada = json!({ "username": "ada", "password": "correct horse battery" });
    ensure!(post("/signup", ada.clone()).await?.status == 200);
    let session = post("/login", ada).await?.text("session")?.to_owned();
    let create = json!({ "session": session, "name": "red", "item": "book" });
    let created = post("/labels/create", create.clone()).await?;
    ensure!(created.status == 200, "{created:?}");
    let label = created.text("label")?;
    let again = post("/labels/create", create).await?;
    ensure!(
        again.brief() == (409, json!({ "error": "The name is taken" }).to_string()),
        "{again:?}"
    );
    let other =
        post("/labels/create", json!({ "session": "none", "name": "blue", "item": "book" }))
            .await?;
    ensure!(other.status == 401, "{other:?}");
    let renamed =
        post("/labels/rename", json!({ "session": session, "label": label, "name": "blue" }))
            .await?;
    ensure!(renamed.status == 200, "{renamed:?}");
    let found = post("/labels/find", json!({ "name": "blue" })).await?;
    ensure!(found.text("label")? == label && found.text("item")? == "book", "{found:?}");
    ensure!(post("/labels/find", json!({ "name": "red" })).await?.status == 404);

    binaries::signal(&child, Signal::INT)?;
    let ended = tokio::time::timeout(STOP, child.wait()).await??;
    ensure!(ended.success(), "{ended}: {}", std::fs::read_to_string(dir.path().join("stderr"))?);
    Ok(())
}
