//! The programs under test, built by cargo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The programs that tests run.
const PROGRAMS: [&str; 2] = ["concert", "moody-worker"];

/// The directory with the programs. They are built first, so that no test runs yesterday's.
///
/// # Errors
/// They cannot be built.
pub async fn dir() -> anyhow::Result<&'static Path> {
    static DIR: OnceCell<PathBuf> = OnceCell::const_new();
    DIR.get_or_try_init(build).await.map(PathBuf::as_path)
}

async fn build() -> anyhow::Result<PathBuf> {
    // target/debug/deps/<test>
    let test = std::env::current_exe()?;
    let dir =
        test.parent().and_then(Path::parent).context("a test stands in target/<profile>/deps")?;
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--workspace", "--locked"]);
    cargo.args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    ensure!(cargo.status().await?.success(), "the programs cannot be built");
    Ok(dir.to_owned())
}

/// A program as a test runs it: at the project, without what the environment happens to say of
/// Concert and its servers, and ended with the test.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let known = ["CONCERT_", "OTEL_", "NATS_", "MONGODB_"];
        let name = name.to_string_lossy();
        // Where the servers are kept is the same for all.
        if name != "CONCERT_CACHE" && known.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs a command to its good end; what it says.
///
/// # Errors
/// It ends badly, with what it says about that.
pub async fn finished(command: &mut Command) -> anyhow::Result<String> {
    let done = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The cargo that runs the test, at the project.
pub fn cargo() -> Command {
    let mut cargo =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(root());
    // What cargo says of the test's package is not so of others': the build scripts that read it
    // would run again, and all that depends on them be built again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

/// The project.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
