//! Limits the size of a server's log file.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Size at which a log file is rotated, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Interval between checks of the size.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Rotates a log file whenever it is too large, until the task is aborted.
pub(crate) async fn keep_small(path: PathBuf) {
    loop {
        if let Err(error) = rotate(&path, MAX_BYTES) {
            tracing::debug!(%error, path = %path.display(), "cannot rotate the log file");
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Moves the content of a large log file to `<name>.old`, which is replaced.
///
/// The file itself stays: the server has it open for appending, and continues at its new end.
fn rotate(path: &Path, max_bytes: u64) -> io::Result<()> {
    if path.metadata()?.len() <= max_bytes {
        return Ok(());
    }
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    std::fs::copy(path, PathBuf::from(old))?;
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn large_log_is_moved_and_its_writer_continues() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("a.log"), dir.path().join("a.log.old"));
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        writer.write_all(b"one\n").unwrap();
        rotate(&path, 4).unwrap();
        assert!(read(&path) == "one\n" && !old.exists());
        writer.write_all(b"two\n").unwrap();
        rotate(&path, 4).unwrap();
        writer.write_all(b"three\n").unwrap();
        assert_eq!((&*read(&path), &*read(&old)), ("three\n", "one\ntwo\n"));
    }
}
