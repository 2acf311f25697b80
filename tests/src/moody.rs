//! A worker in a bad mood, which is started again whenever it ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::{System, binaries};

/// Answers what Moody does.
const RULE: &str = r#"
// allow C0501: a moody action has no answer until it is cured
sync ActMoody
when
    Requesting.request (path: "/moody", mood) : (request)
then
    Moody.act (mood)
    Requesting.respond (request, mood)
"#;

/// The worker, and what keeps it running. Both end when this is dropped.
pub struct Moody {
    cure: PathBuf,
    starts: Arc<AtomicU32>,
    keeper: JoinHandle<()>,
}

/// Writes the project's concepts and rules with Moody's beside them below a directory; where the
/// concepts and where the rules are.
///
/// # Errors
/// They cannot be written.
pub fn rules(dir: &Path) -> anyhow::Result<[String; 2]> {
    let mut written = Vec::new();
    for name in ["concepts", "syncs"] {
        let to = dir.join(name);
        std::fs::create_dir(&to)?;
        for file in std::fs::read_dir(binaries::root().join(name))? {
            let file = file?;
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
        written.push(to.display().to_string());
    }
    std::fs::copy(
        binaries::root().join("tests/moody/Moody.concept"),
        dir.join("concepts/Moody.concept"),
    )?;
    std::fs::write(dir.join("syncs/moody.sync"), RULE)?;
    written.try_into().ok().context("two directories")
}

impl Moody {
    /// Starts it, and starts it again each time that it ends.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn keep(system: &System) -> anyhow::Result<Self> {
        let cure = system.servers.dir().join("cure");
        let log = system.servers.dir().join("Moody.log");
        let starts = Arc::new(AtomicU32::new(0));
        let start = {
            let starts = starts.clone();
            let mut command = system.command("moody-worker");
            command.env("NATS_NKEY", system.seeds("moody"));
            command.arg("--cure").arg(&cure).stdout(Stdio::null());
            move || -> std::io::Result<Child> {
                starts.fetch_add(1, Ordering::Relaxed);
                let log = File::options().create(true).append(true).open(&log)?;
                command.stderr(log).spawn()
            }
        };
        Ok(Self { cure, starts, keeper: tokio::spawn(keep_running(start)) })
    }

    /// From now on every mood is a good one.
    ///
    /// # Errors
    /// The file that says so cannot be written.
    pub fn cure(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.cure, "")?)
    }

    /// Ends it, and does not start it again.
    pub async fn stop(mut self) {
        self.keeper.abort();
        // What was aborted ends with an error, and its child with it.
        drop((&mut self.keeper).await);
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts.load(Ordering::Relaxed)
    }
}

async fn keep_running(mut start: impl FnMut() -> std::io::Result<Child>) {
    while let Ok(mut child) = start() {
        // However it ended, it is started again.
        drop(child.wait().await);
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
