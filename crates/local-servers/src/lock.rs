//! A lock on a directory, which one process at a time can hold.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::StartError;

/// Name of the lock file, which contains the process id of the holder.
pub(crate) const FILE: &str = "concert.lock";
/// Time to wait for the lock of a process that was just killed.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between two attempts.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A locked directory. The system releases the lock when the process exits, also in another PID
/// namespace.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks the directory, and creates it if it is missing.
    ///
    /// # Errors
    /// Another process holds the lock, or the directory cannot be written.
    pub async fn acquire(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::DataDir { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path.join(FILE)).map_err(failed)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if began.elapsed() > TIMEOUT => {
                    let mut holder = String::new();
                    file.read_to_string(&mut holder).map_err(failed)?;
                    return Err(StartError::InUse {
                        path: path.to_owned(),
                        pid: holder.trim().parse().unwrap_or_default(),
                    });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file.write_all(std::process::id().to_string().as_bytes()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
