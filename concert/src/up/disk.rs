//! Default size of the log, from the free disk space.

use std::path::Path;

use anyhow::Context as _;

/// Half of the disk space that is free or used by the streams already, in bytes.
pub(crate) fn default_log_bytes(data_dir: &Path) -> anyhow::Result<i64> {
    let streams = data_dir.join("nats");
    let context = || format!("cannot read the free disk space of {}", data_dir.display());
    std::fs::create_dir_all(data_dir).with_context(context)?;
    let disk = rustix::fs::statvfs(data_dir).with_context(context)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(half(free, used(&streams)))
}

fn half(free: u64, used: u64) -> i64 {
    i64::try_from(free.saturating_add(used) / 2).unwrap_or(i64::MAX).max(1)
}

/// Size of all files below a directory. Skips files that disappear.
fn used(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_size_is_half_of_the_space_for_the_streams() {
        assert_eq!(half(100, 50), 75);
        assert_eq!(half(0, 0), 1);
        assert_eq!(half(u64::MAX, 1), i64::MAX);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), [0; 100]).unwrap();
        assert_eq!(used(dir.path()), 100);
        assert!(default_log_bytes(dir.path()).unwrap() > 100);
    }
}
