//! The named points at which processes are told to die (`crates/runtime/src/chaos.rs`), and how
//! often they did.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Role and point, in the order of one message's way.
pub const POINTS: [&str; 25] = [
    "edge.before-request",
    "edge.published",
    "edge.after-request",
    "router.received",
    "router.before-record",
    "router.before-invoke",
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
    "edge.received",
    "edge.written",
    "edge.before-ack",
    "edge.before-answer",
    "archive.received",
    "archive.written",
    "archive.after-ack",
];

/// The directory in which points are armed.
#[derive(Debug, Clone)]
pub struct Points {
    /// It.
    pub dir: PathBuf,
}

impl Points {
    /// Tells the next process that comes by to die there. One that is armed already stays so.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn arm(&self, point: &str) -> std::io::Result<()> {
        std::fs::write(self.dir.join(point), "")?;
        // The file that a hit leaves is named after the process, which may have come by that number
        // before.
        Ok(())
    }

    /// Sets the clock of a process wrong by so many milliseconds; by 0, right.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn set_clock(&self, process: &str, offset_ms: i64) -> std::io::Result<()> {
        // Whole at once: a process reads it whenever it reads its clock.
        let (clock, new) =
            (self.dir.join(format!("clock.{process}")), self.dir.join(format!(".clock.{process}")));
        std::fs::write(&new, offset_ms.to_string())?;
        std::fs::rename(new, clock)
    }

    /// How often each point was hit.
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

    /// Tells nobody to die any more.
    ///
    /// # Errors
    /// A file cannot be taken away.
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
