//! Commands of the container engine.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// Timeout of every engine command except an image build.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Timeout of an image build.
pub(crate) const BUILDING: Duration = Duration::from_secs(3600);

/// Runs a command and returns its standard output.
pub(crate) async fn output_of(command: &mut Command) -> anyhow::Result<String> {
    output_within(TIMEOUT, command).await
}

/// Runs a command with a timeout and returns its standard output.
pub(crate) async fn output_within(
    within: Duration,
    command: &mut Command,
) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(within, output)
        .await
        .with_context(|| format!("not finished after {within:?}: {shown}"))?
        .with_context(|| format!("cannot run: {shown}"))?;
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

/// The compose plugin of the engine, or the older standalone program.
pub(crate) async fn compose() -> Command {
    if output_of(&mut docker(&["compose", "version"])).await.is_ok() {
        docker(&["compose"])
    } else {
        Command::new("docker-compose")
    }
}
