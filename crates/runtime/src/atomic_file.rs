//! Atomic creation and replacement of files that only their owner can read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Creates a file and its parent directories.
///
/// # Errors
/// The file cannot be written, or exists already.
pub fn create_new(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = write_temporary(path, text)?;
    // A hard link, unlike a rename, does not replace an existing file.
    let made = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary)?;
    made?;
    sync_dir(path)
}

/// Creates or replaces a file. A concurrent reader sees the old or the new content. The file is
/// fsynced when this returns.
///
/// # Errors
/// The file cannot be written.
pub fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::rename(write_temporary(path, text)?, path)?;
    sync_dir(path)
}

fn write_temporary(path: &Path, text: &str) -> std::io::Result<PathBuf> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let temporary = path.with_extension(format!("temporary-{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(temporary)
}

/// Fsyncs the directory, which contains the file's name.
fn sync_dir(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_created_once_replaced_atomically_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a").join("b.key");
        create_new(&path, "one").unwrap();
        assert_eq!(create_new(&path, "two").unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        replace(&path, "three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(&path).unwrap().permissions(),
            );
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
