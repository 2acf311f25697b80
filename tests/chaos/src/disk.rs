//! Small file systems for the servers' data, which can be filled for a while.
//!
//! They need permission to mount. The program first enters its own mount namespace (`enter`),
//! which removes the mounts when it exits. Without that permission, the run reports it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_local_servers::TestServers;
use tokio::time::Instant;

/// Size for the streams.
const NATS_MIB: u64 = 128;
/// Size for the databases; mongod reserves most of it for its journal.
const MONGO_MIB: u64 = 768;
/// The file that fills the remaining space.
const FILLER: &str = "filler";
/// Interval at which it takes space that has become free.
const FILL_EVERY: Duration = Duration::from_millis(200);
/// Environment variable that marks a process with its own mount namespace.
const NAMESPACE: &str = "CONCERT_CHAOS_NAMESPACE";

/// Restarts this process image in its own mount namespace. Returns if that is not permitted,
/// or if the process is already in one.
///
/// # Errors
/// The reason why there is no namespace.
pub fn enter() -> anyhow::Result<()> {
    if std::env::var_os(NAMESPACE).is_some() {
        return Ok(());
    }
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let tried = Command::new("unshare")
        .args([flags, "mount", "-t", "tmpfs", "-o", "size=1m", "none", "/mnt"])
        .output()
        .context("cannot run unshare")?;
    ensure!(
        tried.status.success(),
        "mounting is not permitted here: {}",
        String::from_utf8_lossy(&tried.stderr).trim()
    );
    let again = Command::new("unshare")
        .arg(flags)
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(NAMESPACE, "1")
        .exec();
    Err(again.into())
}

/// A mounted file system.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
}

impl Disk {
    fn mount(dir: &Path, mib: u64) -> anyhow::Result<Self> {
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"])
            .arg(dir)
            .output()
            .context("cannot run mount")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr).trim());
        Ok(Self { dir: dir.to_owned() })
    }

    /// Fills the file system for some time.
    ///
    /// # Errors
    /// It cannot be filled or freed.
    pub async fn full(&self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        let filled = async {
            let mut filler = File::options().create(true).append(true).open(self.filler())?;
            while Instant::now() < end {
                fill(&mut filler)?;
                tokio::time::sleep(FILL_EVERY).await;
            }
            Ok(())
        };
        let filled = filled.await;
        std::fs::remove_file(self.filler())?;
        filled
    }

    fn filler(&self) -> PathBuf {
        self.dir.join(FILLER)
    }
}

/// Takes all the remaining space.
fn fill(filler: &mut File) -> io::Result<()> {
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![0; size];
        loop {
            match filler.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazy unmount: processes that still use it keep it until they exit.
        let gone = Command::new("umount").arg("-l").arg(&self.dir).stdin(Stdio::null()).status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.dir.display());
        }
    }
}

/// The file systems of two servers.
#[derive(Debug)]
pub struct Disks {
    /// The file system of nats-server.
    pub nats: Disk,
    /// The file system of mongod.
    pub mongo: Disk,
}

impl Disks {
    /// Moves the data of empty servers to small file systems.
    ///
    /// # Errors
    /// Mounting is not permitted, or a server does not start.
    pub async fn under(servers: &mut TestServers) -> anyhow::Result<Self> {
        servers.nats.stop().await;
        servers.mongo.stop().await;
        let made = Self::make(servers.dir());
        // The servers must run again, even if the move failed.
        servers.nats.restart().await?;
        servers.mongo.restart().await?;
        made
    }

    fn make(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            nats: Disk::mount(&dir.join("nats"), NATS_MIB)?,
            mongo: Disk::mount(&dir.join("mongo"), MONGO_MIB)?,
        })
    }
}
