//! The engine's commands.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// No command of the engine takes longer, but for the building of an image.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long an image may take.
pub(crate) const BUILDING: Duration = Duration::from_secs(3600);

/// Carries out a command; what it said on standard output.
pub(crate) async fn said(command: &mut Command) -> anyhow::Result<String> {
    said_within(PATIENCE, command).await
}

/// Carries out a command that may take so long; what it said on standard output.
pub(crate) async fn said_within(within: Duration, command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(within, output)
        .await
        .with_context(|| format!("not done after {within:?}: {shown}"))?
        .with_context(|| format!("cannot be carried out: {shown}"))?;
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    ensure!(output.status.success(), "{shown}: {}\n{out}{err}", output.status);
    Ok(out)
}

/// `docker` with arguments.
pub(crate) fn docker(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(args);
    command
}

/// The plugin of the engine, or the program of its own of before.
pub(crate) async fn compose() -> Command {
    if said(&mut docker(&["compose", "version"])).await.is_ok() {
        docker(&["compose"])
    } else {
        Command::new("docker-compose")
    }
}
