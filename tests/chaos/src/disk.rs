//! Small file systems for the servers' data, which can be full for a while.
//!
//! They are made with
//! `mount`, so the run must be allowed to: the program goes into a mount namespace of its own first (`enter`),
//! which takes them away with its end. Where it may not, the run says so.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_local_servers::TestServers;
use tokio::time::Instant;

/// Room for the streams.
const NATS_MIB: u64 = 128;
/// Room for the databases; mongod sets aside most of it for its journal.
const MONGO_MIB: u64 = 768;
/// The file that takes what room is left.
const FILLER: &str = "filler";
/// How often it takes what has become free.
const FILL_EVERY: Duration = Duration::from_millis(200);
/// Says that this process has its mounts to itself.
const NAMESPACE: &str = "CONCERT_CHAOS_NAMESPACE";

/// Goes on in a mount namespace of its own, in a new process image; returns where that is not
/// allowed, or when this is it.
///
/// # Errors
/// Why there can be none.
pub fn enter() -> anyhow::Result<()> {
    if std::env::var_os(NAMESPACE).is_some() {
        return Ok(());
    }
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let tried = Command::new("unshare")
        .args([flags, "mount", "-t", "tmpfs", "-o", "size=1m", "none", "/mnt"])
        .output()
        .context("unshare cannot be run")?;
    ensure!(
        tried.status.success(),
        "nothing can be mounted here: {}",
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

/// A file system of its own.
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
            .context("mount cannot be run")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr).trim());
        Ok(Self { dir: dir.to_owned() })
    }

    /// Has no room for some time.
    ///
    /// # Errors
    /// The disk cannot be filled or made free.
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

/// Takes all the room that is left.
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
        // What still uses it keeps it until it ends.
        let gone = Command::new("umount").arg("-l").arg(&self.dir).stdin(Stdio::null()).status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.dir.display());
        }
    }
}

/// A disk for each of two servers.
#[derive(Debug)]
pub struct Disks {
    /// That of nats-server.
    pub nats: Disk,
    /// That of mongod.
    pub mongo: Disk,
}

impl Disks {
    /// Puts the data of servers that hold nothing yet on small disks.
    ///
    /// # Errors
    /// It is not allowed to mount, or a server does not start there.
    pub async fn under(servers: &mut TestServers) -> anyhow::Result<Self> {
        servers.nats.stop().await;
        servers.mongo.stop().await;
        let made = Self::make(servers.dir());
        // They must run again, whatever came of it.
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
