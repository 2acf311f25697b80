//! Waiting for a server to start: as long as it runs and does something.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::StartError;
use crate::program::Program;

/// Maximum time without a new log line. A server that recovers a large store logs its progress.
const MAX_SILENCE: Duration = Duration::from_secs(600);
/// Interval between reports about a server that is not ready yet.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The start of a server.
pub(crate) struct Startup {
    program: Program,
    log_file: PathBuf,
    began: Instant,
    log_bytes: u64,
    log_grew: Instant,
    reported: Instant,
}

impl Startup {
    pub(crate) fn new(program: Program, log_file: &Path) -> Self {
        let now = Instant::now();
        let log_file = log_file.to_owned();
        Self { program, log_file, began: now, log_bytes: 0, log_grew: now, reported: now }
    }

    /// Decides whether to continue to wait for a running server, and reports a long start.
    ///
    /// # Errors
    /// The server has logged nothing for [`MAX_SILENCE`]; `why` is its last answer.
    pub(crate) fn check(&mut self, why: &dyn std::fmt::Display) -> Result<(), StartError> {
        let bytes = self.log_file.metadata().map_or(0, |metadata| metadata.len());
        if bytes != self.log_bytes {
            (self.log_bytes, self.log_grew) = (bytes, Instant::now());
        }
        if self.log_grew.elapsed() > MAX_SILENCE {
            return Err(StartError::NotReady {
                program: self.program,
                seconds: self.began.elapsed().as_secs(),
                why: why.to_string(),
                log_file: self.log_file.clone(),
            });
        }
        if self.reported.elapsed() >= REPORT_INTERVAL {
            self.reported = Instant::now();
            tracing::warn!(
                program = %self.program,
                seconds = self.began.elapsed().as_secs(),
                log = %self.log_file.display(),
                "the server is not ready yet; waiting while it runs"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn server_is_awaited_while_its_log_grows() {
        let dir = tempfile::tempdir().unwrap();
        let log_file = dir.path().join("a.log");
        let mut startup = Startup::new(Program::NatsServer, &log_file);
        for minute in 0..60 {
            std::fs::write(&log_file, "x".repeat(minute)).unwrap();
            assert!(startup.check(&"not ready").is_ok(), "{minute}");
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        tokio::time::advance(MAX_SILENCE).await;
        let error = startup.check(&"no answer").unwrap_err().to_string();
        assert!(error.contains("no answer") && error.contains("a.log"), "{error}");
    }
}
