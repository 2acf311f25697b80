//! The programs under test, built by cargo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// The programs that tests run.
const PROGRAMS: [&str; 4] = ["concert", "conformance-worker", "faulty-worker", "note-worker"];

/// Directory of the programs. Builds them first, because an outdated binary would be tested
/// otherwise.
///
/// # Errors
/// The build fails.
pub async fn dir() -> anyhow::Result<&'static Path> {
    static DIR: OnceCell<PathBuf> = OnceCell::const_new();
    DIR.get_or_try_init(build).await.map(PathBuf::as_path)
}

async fn build() -> anyhow::Result<PathBuf> {
    // target/debug/deps/<test>
    let test = std::env::current_exe()?;
    let dir =
        test.parent().and_then(Path::parent).context("the test is not in target/<profile>/deps")?;
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--workspace", "--locked"]);
    cargo.args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    ensure!(cargo.status().await?.success(), "cannot build the programs");
    Ok(dir.to_owned())
}

/// A command that runs a program in the project directory, without inherited variables of Concert
/// and its servers. The process ends with the test.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let known = ["CONCERT_", "OTEL_", "NATS_", "MONGODB_"];
        let name = name.to_string_lossy();
        // The server cache is shared by all tests.
        if name != "CONCERT_CACHE" && known.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    // Tests run several systems at the same time.
    command.env("CONCERT_CONSOLE__LISTEN", "127.0.0.1:0");
    command
}

/// Runs a command to a successful end and returns its standard output.
///
/// # Errors
/// The command exits with an error; the message holds its standard error.
pub async fn finished(command: &mut Command) -> anyhow::Result<String> {
    let done = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Sends a signal to a process.
///
/// # Errors
/// The process has exited.
pub fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    Ok(kill_process(pid.context("the process has exited")?, signal)?)
}

/// The cargo that runs the test, in the project directory.
pub fn cargo() -> Command {
    let mut cargo =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(root());
    // Removes what cargo sets for the test's package. Build scripts that read these variables would
    // run again, and cargo would rebuild everything that depends on them.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

/// Root directory of the project.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
