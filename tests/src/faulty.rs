//! The faulty worker, restarted whenever it exits.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::{System, binaries};

/// Responds with the output of Faulty.
const RULE: &str = r#"
// allow C0501: a faulty action has no outcome until the worker is healed
sync RunFaulty
when
    Requesting.request (path: "/faulty", failure_mode) : (request)
then
    Faulty.act (failure_mode)
    Requesting.respond (request, failure_mode)
"#;

/// The worker and the task that restarts it. Both stop when this is dropped.
pub struct Faulty {
    healed_file: PathBuf,
    starts: Arc<AtomicU32>,
    keeper: JoinHandle<()>,
}

/// Writes the project's concepts and rules together with Faulty's below a directory, and returns
/// the directories of the concepts and of the rules.
///
/// # Errors
/// The files cannot be written.
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
        binaries::root().join("tests/faulty/Faulty.concept"),
        dir.join("concepts/Faulty.concept"),
    )?;
    std::fs::write(dir.join("syncs/faulty.sync"), RULE)?;
    written.try_into().ok().context("two directories")
}

impl Faulty {
    /// Starts the worker, and restarts it whenever it exits.
    ///
    /// # Errors
    /// The worker cannot be started.
    pub fn run(system: &System) -> anyhow::Result<Self> {
        let healed_file = system.servers.dir().join("healed");
        let log = system.servers.dir().join("Faulty.log");
        let starts = Arc::new(AtomicU32::new(0));
        let start = {
            let starts = starts.clone();
            let mut command = system.command("faulty-worker");
            command.env("NATS_NKEY", system.seeds("faulty"));
            command.arg("--healed-file").arg(&healed_file).stdout(Stdio::null());
            move || -> std::io::Result<Child> {
                starts.fetch_add(1, Ordering::Relaxed);
                let log = File::options().create(true).append(true).open(&log)?;
                command.stderr(log).spawn()
            }
        };
        Ok(Self { healed_file, starts, keeper: tokio::spawn(keep_running(start)) })
    }

    /// From now on, actions succeed in every failure mode.
    ///
    /// # Errors
    /// The marker file cannot be written.
    pub fn heal(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.healed_file, "")?)
    }

    /// Stops the worker without a restart.
    pub async fn stop(mut self) {
        self.keeper.abort();
        // The aborted task returns an error, and its child exits with it.
        drop((&mut self.keeper).await);
    }

    /// Number of starts.
    pub fn starts(&self) -> u32 {
        self.starts.load(Ordering::Relaxed)
    }
}

async fn keep_running(mut start: impl FnMut() -> std::io::Result<Child>) {
    while let Ok(mut child) = start() {
        // Restarts after any exit status.
        drop(child.wait().await);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
