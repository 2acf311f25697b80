//! The programs with the feature `chaos`, in a directory of their own, so that nobody takes them
//! for those that are shipped.

use std::path::PathBuf;

use anyhow::ensure;
use concert_tests::binaries::{cargo, root};
use tokio::sync::OnceCell;

/// The program that runs under chaos.
const PROGRAM: &str = "concert";
/// The same, with workers that forget their stamps.
const WITHOUT_STAMPS: &str = "concert-without-stamps";
/// Every program that runs under chaos.
pub const PROGRAMS: [&str; 2] = [PROGRAM, WITHOUT_STAMPS];

/// The program for a run in which this guard is taken away. Stamps are taken away by a program of
/// its own, all others within the program.
pub fn program(sabotage: Option<&str>) -> &'static str {
    if sabotage == Some("stamp") { WITHOUT_STAMPS } else { PROGRAM }
}

/// Builds the programs, with points to die at and guards that can be taken away, and afterwards
/// those without, in whose place they were.
///
/// # Errors
/// They cannot be built.
pub async fn programs() -> anyhow::Result<PathBuf> {
    // Once for all tests of a process, which would stand in each other's way.
    static PROGRAMS_DIR: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAMS_DIR.get_or_try_init(build).await.cloned()
}

async fn build() -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let (plain, armed) = (target.join("debug"), target.join("chaos-programs"));
    build_with(&["--features", "concert-runtime/chaos"]).await?;
    std::fs::create_dir_all(&armed)?;
    for program in PROGRAMS {
        let to = armed.join(program);
        // Another run may have it open; a new file does not disturb that.
        let new = armed.join(format!(".{program}.{}", std::process::id()));
        std::fs::copy(plain.join(program), &new)?;
        std::fs::rename(new, to)?;
    }
    build_with(&[]).await?;
    Ok(armed)
}

async fn build_with(more: &[&str]) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--workspace", "--locked"]);
    for program in PROGRAMS {
        command.args(["--bin", program]);
    }
    ensure!(command.args(more).status().await?.success(), "the programs cannot be built");
    Ok(())
}
