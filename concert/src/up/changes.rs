//! Changes of files, found by polling: file systems of containers and networks report no events.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Interval between two polls.
const INTERVAL: Duration = Duration::from_millis(300);

/// Directories that package managers and compilers fill.
const GENERATED: [&str; 3] = ["node_modules", "target", "__pycache__"];

/// Time of the last change, and size, of each file.
type Seen = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Watched files, and the files of watched directories.
pub(super) struct Changes {
    watched: BTreeSet<PathBuf>,
    seen: Seen,
}

impl Changes {
    /// Watches from now on.
    pub(super) fn of(watched: BTreeSet<PathBuf>) -> Self {
        let seen = look(&watched);
        Self { watched, seen }
    }

    /// Returns the files that have changed, were created or deleted, as soon as two polls see the
    /// same: an editor may be writing.
    pub(super) async fn next(&mut self) -> BTreeSet<PathBuf> {
        let mut before = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = look(&self.watched);
            if before.as_ref() == Some(&now) && now != self.seen {
                let changed = differences(&self.seen, &now);
                self.seen = now;
                return changed;
            }
            before = Some(now);
        }
    }

    /// Watches other paths. The files of a new path count as unchanged. A change below a path
    /// that was watched before is still reported.
    pub(super) fn rewatch(&mut self, watched: BTreeSet<PathBuf>) {
        self.seen.retain(|file, _| is_below(file, &watched));
        let new = look(&watched).into_iter().filter(|(file, _)| !is_below(file, &self.watched));
        self.seen.extend(new);
        self.watched = watched;
    }
}

/// Returns whether a file is one of these paths, or in one of these directories.
pub(super) fn is_below(file: &Path, watched: &BTreeSet<PathBuf>) -> bool {
    watched.iter().any(|path| file.starts_with(path))
}

fn differences(before: &Seen, now: &Seen) -> BTreeSet<PathBuf> {
    let paths = before.keys().chain(now.keys());
    paths.filter(|path| before.get(*path) != now.get(*path)).cloned().collect()
}

/// Files that cannot be read are left out.
fn look(watched: &BTreeSet<PathBuf>) -> Seen {
    let mut seen = Seen::new();
    for path in watched {
        add(path, &mut seen);
    }
    seen
}

fn add(path: &Path, seen: &mut Seen) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if !metadata.is_dir() {
        seen.insert(path.to_owned(), (metadata.modified().ok(), metadata.len()));
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if !name.starts_with('.') && !GENERATED.contains(&&*name) && !is_link {
            add(&entry.path(), seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changed_created_and_deleted_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b", "c"] {
            std::fs::write(path(name), name).unwrap();
        }
        std::fs::create_dir(path("target")).unwrap();
        let watched = BTreeSet::from([dir.path().to_owned()]);
        let mut changes = Changes::of(watched.clone());
        std::fs::write(path("a"), "longer").unwrap();
        std::fs::remove_file(path("b")).unwrap();
        std::fs::write(path("d"), "").unwrap();
        std::fs::write(path(".hidden"), "").unwrap();
        std::fs::write(path("target/e"), "").unwrap();
        let expected = ["a", "b", "d"].map(path);
        assert_eq!(changes.next().await, BTreeSet::from(expected));

        // A further path is no change of its files. Changes made before it is watched count.
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("f"), "").unwrap();
        std::fs::write(path("c"), "longer").unwrap();
        std::fs::write(path("g"), "").unwrap();
        std::fs::remove_file(path("d")).unwrap();
        changes.rewatch(BTreeSet::from([dir.path().to_owned(), other.path().to_owned()]));
        assert_eq!(changes.next().await, BTreeSet::from(["c", "d", "g"].map(path)));

        // A path that is watched no longer has no changes.
        std::fs::write(other.path().join("f"), "longer").unwrap();
        changes.rewatch(watched);
        std::fs::write(path("c"), "c").unwrap();
        assert_eq!(changes.next().await, BTreeSet::from([path("c")]));
    }
}
