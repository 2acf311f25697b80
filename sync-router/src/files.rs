//! Finds and reads spec and rule files, for loading, checking, formatting and watching.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use concert_lang::source::SourceFile;

/// Concept specs: `*.concept` in one directory. Neither they nor the directory are required.
pub const SPECS: FileKind = FileKind { extension: "concept", nested: false, required: false };

/// Rules: `*.sync` in a directory and its subdirectories. At least one is required.
pub const RULES: FileKind = FileKind { extension: "sync", nested: true, required: true };

/// A kind of file, and its possible locations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    /// Extension of the files, without the dot.
    pub extension: &'static str,
    nested: bool,
    required: bool,
}

/// Error of finding or reading files.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A directory or file is unreadable.
    #[error("cannot read {path}: {source}", path = .path.display())]
    File {
        /// Path of the directory or file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A directory has no file of its kind.
    #[error(
        "{path} has no file that ends with .{extension}; add one, or choose another directory",
        path = .path.display()
    )]
    Empty {
        /// Path of the directory.
        path: PathBuf,
        /// Extension of the files.
        extension: &'static str,
    },
}

impl ReadError {
    fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

impl FileKind {
    /// Returns whether a file name has the extension of this kind.
    pub fn matches(self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == self.extension)
    }

    /// Finds the files of this kind, sorted by path. Skips names that begin with a dot: editors,
    /// version control and volume mounts keep their own files under such names.
    ///
    /// # Errors
    /// A directory cannot be read, or a required file is missing.
    pub fn find(self, dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
        if !self.required && !dir.try_exists().map_err(ReadError::at(dir))? {
            return Ok(Vec::new());
        }
        let mut found = BTreeSet::new();
        // Links to directories are followed, each directory once, because links may form a loop.
        let mut visited = BTreeSet::new();
        let mut pending = vec![dir.to_owned()];
        while let Some(dir) = pending.pop() {
            if !visited.insert(dir.canonicalize().map_err(ReadError::at(&dir))?) {
                continue;
            }
            for entry in std::fs::read_dir(&dir).map_err(ReadError::at(&dir))? {
                let path = entry.map_err(ReadError::at(&dir))?.path();
                if path.file_name().is_some_and(is_hidden) {
                    continue;
                }
                if path.is_dir() {
                    if self.nested {
                        pending.push(path);
                    }
                } else if self.matches(&path) {
                    found.insert(path);
                }
            }
            // Directory entries have no defined order. Sorting makes the result the same when two
            // links point to one directory.
            pending.sort_unstable_by(|a, b| b.cmp(a));
        }
        if self.required && found.is_empty() {
            return Err(ReadError::Empty { path: dir.to_owned(), extension: self.extension });
        }
        Ok(found.into_iter().collect())
    }

    /// Reads the files of this kind, named by their paths below `dir`.
    ///
    /// # Errors
    /// A directory or file cannot be read, or a required file is missing.
    pub fn read(self, dir: &Path) -> Result<Vec<SourceFile>, ReadError> {
        let read = |path: PathBuf| {
            let bytes = std::fs::read(&path).map_err(ReadError::at(&path))?;
            // The parser reports the position of bytes that are not UTF-8.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(SourceFile::new(path.display().to_string(), text))
        };
        let mut files: Vec<SourceFile> =
            self.find(dir)?.into_iter().map(read).collect::<Result<_, _>>()?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates empty files, and returns the relative names of those that are found.
    fn found(kind: FileKind, files: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        names(kind, dir.path())
    }

    fn names(kind: FileKind, dir: &Path) -> Vec<String> {
        let files = kind.read(dir).unwrap();
        let relative = |file: &SourceFile| {
            Path::new(&file.name).strip_prefix(dir).unwrap().display().to_string()
        };
        files.iter().map(relative).collect()
    }

    #[test]
    fn rules_are_found_in_subdirectories_and_specs_are_not() {
        let files = ["b.sync", "a/deep/c.sync", "a.sync", "a/d.concept", "e.concept", "f.txt"];
        assert_eq!(found(RULES, &files), ["a.sync", "a/deep/c.sync", "b.sync"]);
        assert_eq!(found(SPECS, &files), ["e.concept"]);
    }

    #[test]
    fn names_that_begin_with_a_dot_are_skipped() {
        let files = [
            "a.sync",
            ".#a.sync",
            "._a.sync",
            ".sync",
            ".git/b.sync",
            "c/.d/e.sync",
            "P.concept",
            "._P.concept",
        ];
        assert_eq!(found(RULES, &files), ["a.sync"]);
        assert_eq!(found(SPECS, &files), ["P.concept"]);
    }

    #[test]
    fn directory_with_a_dot_in_its_own_path_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let hidden = dir.path().join(".rules");
        std::fs::create_dir(&hidden).unwrap();
        std::fs::write(hidden.join("a.sync"), "").unwrap();
        assert_eq!(names(RULES, &hidden), ["a.sync"]);
    }

    #[test]
    fn missing_rules_are_an_error_and_missing_specs_are_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(names(SPECS, dir.path()), Vec::<String>::new());
        assert_eq!(names(SPECS, &dir.path().join("missing")), Vec::<String>::new());
        std::fs::write(dir.path().join(".a.sync"), "").unwrap();
        assert!(matches!(RULES.find(dir.path()), Err(ReadError::Empty { .. })));
        let missing = dir.path().join("missing");
        assert!(
            matches!(RULES.find(&missing), Err(ReadError::File { path, .. }) if path == missing)
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_once() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let syncs = dir.path().join("syncs");
        // Kubernetes mounts a ConfigMap this way: `..data` has the files, and each file is a link.
        std::fs::create_dir_all(syncs.join("..data")).unwrap();
        std::fs::create_dir(dir.path().join("shared")).unwrap();
        std::fs::write(syncs.join("..data/a.sync"), "").unwrap();
        std::fs::write(dir.path().join("shared/b.sync"), "").unwrap();
        symlink("..data/a.sync", syncs.join("a.sync")).unwrap();
        // Emacs locks an open file this way.
        symlink("user@host.42:1", syncs.join(".#a.sync")).unwrap();
        symlink("../shared", syncs.join("shared")).unwrap();
        symlink("../shared", syncs.join("again")).unwrap();
        symlink(".", syncs.join("loop")).unwrap();
        assert_eq!(names(RULES, &syncs), ["a.sync", "again/b.sync"]);
    }
}
