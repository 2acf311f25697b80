//! Builds the programs with the feature `chaos` in a separate directory, so that they are not
//! mistaken for release builds.

use std::path::PathBuf;

use anyhow::ensure;
use concert_tests::binaries::{cargo, root};
use tokio::sync::OnceCell;

/// The program under test.
const PROGRAM: &str = "concert";
/// The same program, with workers that write no stamps.
const WITHOUT_STAMPS: &str = "concert-without-stamps";
/// All programs under test.
pub const PROGRAMS: [&str; 2] = [PROGRAM, WITHOUT_STAMPS];

/// The program for a run with this guard disabled. Missing stamps need a separate program; all
/// other guards are disabled at run time.
pub fn program(sabotage: Option<&str>) -> &'static str {
    if sabotage == Some("stamp") { WITHOUT_STAMPS } else { PROGRAM }
}

/// Builds the programs with kill points and guards that can be disabled, and then rebuilds those
/// without in the usual place.
///
/// # Errors
/// The build fails.
pub async fn programs() -> anyhow::Result<PathBuf> {
    // One build per test process; concurrent builds would conflict.
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
        // Another run may have the file open. A new file does not affect it.
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
    ensure!(command.args(more).status().await?.success(), "cannot build the programs");
    Ok(())
}
