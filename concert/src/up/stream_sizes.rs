//! Default limits of streams, from the free disk space and the machine's memory.

use std::path::Path;

use anyhow::Context as _;
use concert_runtime::streams::LogLimits;

/// Memory of the NATS server for each message in the log, in bytes (docs/performance.md).
const BYTES_PER_MESSAGE: u64 = 750;
/// Memory of the machine, on Linux.
const MACHINE_MEMORY: &str = "/proc/meminfo";
/// Maximum memory of a container (cgroup v2), in bytes, or `max`.
const CONTAINER_LIMIT: &str = "/sys/fs/cgroup/memory.max";

/// Sets the limits that are not configured: half of the disk space and a quarter of the memory for
/// the log, and a quarter of the disk space for the large values.
pub(crate) fn set_defaults(log: &mut LogLimits, data_dir: &Path) -> anyhow::Result<()> {
    let space = space(data_dir)?;
    for (max_bytes, share) in
        [(&mut log.log_max_bytes, space / 2), (&mut log.large_values_max_bytes, space / 4)]
    {
        if *max_bytes == 0 {
            *max_bytes = limit(share);
        }
    }
    if log.log_max_messages == 0
        && let Some(memory) = memory()
    {
        log.log_max_messages = limit(memory / 4 / BYTES_PER_MESSAGE);
    }
    Ok(())
}

/// A limit of a stream, of which 0 would mean none.
fn limit(share: u64) -> i64 {
    i64::try_from(share).unwrap_or(i64::MAX).max(1)
}

/// Memory of the machine, or of the container that this process runs in, in bytes. `None` if it is
/// unknown.
fn memory() -> Option<u64> {
    let machine = std::fs::read_to_string(MACHINE_MEMORY).ok()?;
    let total = machine.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total: u64 = total.trim().strip_suffix(" kB")?.parse().ok()?;
    let container = std::fs::read_to_string(CONTAINER_LIMIT).unwrap_or_default();
    Some(container.trim().parse().unwrap_or(u64::MAX).min(total * 1024))
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
        if let Some(memory) = memory() {
            let of_log = u64::try_from(log.log_max_messages).unwrap() * BYTES_PER_MESSAGE;
            assert!((memory / 5..=memory / 4).contains(&of_log), "{of_log} of {memory}");
        }
        log.log_max_messages = 9;
        set_defaults(&mut log, dir.path()).unwrap();
        assert_eq!(log.log_max_messages, 9);
        // The log and the large values fit into the server's storage, at any configured size.
        log.log_max_bytes = 1 << 60;
        assert!(max_storage(&log, dir.path()).unwrap() > 1 << 60);
    }
}
