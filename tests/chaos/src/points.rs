//! The kill points of processes (`crates/runtime/src/chaos.rs`), and how often each was hit.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Role and point, in the order in which a message passes them.
pub const POINTS: [&str; 23] = [
    "edge.before-request",
    "edge.published",
    "edge.after-request",
    "router.received",
    "router.before-record",
    "router.before-invoke",
    "router.before-respond",
    "router.published",
    "router.before-ack",
    "profile.received",
    "profile.written",
    "profile.published",
    "profile.before-ack",
    "profile.after-ack",
    "sessioning.received",
    "sessioning.written",
    "sessioning.published",
    "sessioning.before-ack",
    "sessioning.after-ack",
    "edge.before-answer",
    "archive.received",
    "archive.written",
    "archive.after-ack",
];

/// The directory in which points are armed.
#[derive(Debug, Clone)]
pub struct Points {
    /// The directory.
    pub dir: PathBuf,
}

impl Points {
    /// Arms a kill point: the next process that reaches it dies. An armed point stays armed.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn arm(&self, point: &str) -> std::io::Result<()> {
        std::fs::write(self.dir.join(point), "")?;
        // A hit leaves a file named after the process id, which an earlier process may have had.
        Ok(())
    }

    /// Changes the clock of a process by a number of milliseconds; 0 resets it.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn set_clock(&self, process: &str, offset_ms: i64) -> std::io::Result<()> {
        // Replaced atomically, because a process reads the file with every clock read.
        let (clock, new) =
            (self.dir.join(format!("clock.{process}")), self.dir.join(format!(".clock.{process}")));
        std::fs::write(&new, offset_ms.to_string())?;
        std::fs::rename(new, clock)
    }

    /// The number of hits of each point.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn hits(&self) -> std::io::Result<BTreeMap<String, u32>> {
        let mut hits: BTreeMap<String, u32> =
            POINTS.iter().map(|point| ((*point).to_owned(), 0)).collect();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some((point, _)) = name.split_once(".hit-") {
                *hits.entry(point.to_owned()).or_default() += 1;
            }
        }
        Ok(hits)
    }

    /// Disarms all points.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn disarm(&self) -> std::io::Result<()> {
        for point in POINTS {
            match std::fs::remove_file(self.dir.join(point)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
