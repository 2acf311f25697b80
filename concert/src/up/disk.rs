//! Default sizes of streams, from the free disk space.

use std::path::Path;

use anyhow::Context as _;
use concert_runtime::streams::LogLimits;

/// Sets the sizes that are not configured: half of the space for the log, and a quarter for the
/// large values.
pub(crate) fn set_defaults(log: &mut LogLimits, data_dir: &Path) -> anyhow::Result<()> {
    let space = space(data_dir)?;
    for (max_bytes, share) in
        [(&mut log.log_max_bytes, space / 2), (&mut log.large_values_max_bytes, space / 4)]
    {
        if *max_bytes == 0 {
            *max_bytes = i64::try_from(share).unwrap_or(i64::MAX).max(1);
        }
    }
    Ok(())
}

/// Maximum size of all streams, in bytes: more than the sizes that the server must reserve, and not
/// the whole space.
pub(crate) fn max_storage(log: &LogLimits, data_dir: &Path) -> anyhow::Result<u64> {
    let reserved = log.log_max_bytes.saturating_add(log.large_values_max_bytes);
    let reserved = u64::try_from(reserved).unwrap_or_default();
    Ok((space(data_dir)? / 8 * 7).max(reserved))
}

/// Disk space that is free or used by the streams already, in bytes.
fn space(data_dir: &Path) -> anyhow::Result<u64> {
    let context = || format!("cannot read the free disk space of {}", data_dir.display());
    std::fs::create_dir_all(data_dir).with_context(context)?;
    let disk = rustix::fs::statvfs(data_dir).with_context(context)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(free.saturating_add(used(&data_dir.join("nats"))))
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
    fn default_sizes_are_shares_of_the_space_for_the_streams() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), [0; 100]).unwrap();
        assert_eq!(used(dir.path()), 100);
        let mut log = LogLimits { log_max_bytes: 7, ..LogLimits::default() };
        set_defaults(&mut log, dir.path()).unwrap();
        assert_eq!(log.log_max_bytes, 7);
        assert!(log.large_values_max_bytes > 100);
        // The log and the large values fit into the server's storage, at any configured size.
        log.log_max_bytes = 1 << 60;
        assert!(max_storage(&log, dir.path()).unwrap() > 1 << 60);
    }
}
