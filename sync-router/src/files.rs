//! The one walk over directories of specs and rules: what it finds is loaded, checked, formatted
//! and watched.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use concert_lang::source::SourceFile;

/// Concept specs: `*.concept` in one directory. There may be none.
pub const SPECS: FileKind = FileKind { extension: "concept", nested: false, required: false };

/// Rules: `*.sync` in a directory and its subdirectories. There must be one.
pub const RULES: FileKind = FileKind { extension: "sync", nested: true, required: true };

/// A kind of file, and where its files may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    /// Extension of the files, without the dot.
    pub extension: &'static str,
    nested: bool,
    required: bool,
}

/// Why files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A directory or file cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    File {
        /// What cannot be read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A directory holds no file of its kind.
    #[error("{path} holds no file that ends with .{extension}", path = .path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
        /// The extension.
        extension: &'static str,
    },
}

impl ReadError {
    fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

impl FileKind {
    /// Reports whether a file name has the extension of this kind.
    pub fn matches(self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == self.extension)
    }

    /// Finds the files of this kind, sorted by path. Skips names that begin with a dot: editors,
    /// version control and volume mounts keep their own files under such names.
    ///
    /// # Errors
    /// A directory cannot be read, or a required file is missing.
    pub fn find(self, dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let mut found = BTreeSet::new();
        // Links to directories are followed, each directory once: links may form a loop.
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
            // Directories have no order, and of two links to one directory the same must win.
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
            // The parser reports the place of bytes that are not UTF-8.
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

    /// Makes empty files, and names those that are found, relative to their directory.
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
    fn a_directory_whose_own_path_begins_with_a_dot_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let hidden = dir.path().join(".rules");
        std::fs::create_dir(&hidden).unwrap();
        std::fs::write(hidden.join("a.sync"), "").unwrap();
        assert_eq!(names(RULES, &hidden), ["a.sync"]);
    }

    #[test]
    fn a_directory_without_rules_is_an_error_and_one_without_specs_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(names(SPECS, dir.path()), Vec::<String>::new());
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
        // As Kubernetes mounts a ConfigMap: `..data` holds the files, and each is linked.
        std::fs::create_dir_all(syncs.join("..data")).unwrap();
        std::fs::create_dir(dir.path().join("shared")).unwrap();
        std::fs::write(syncs.join("..data/a.sync"), "").unwrap();
        std::fs::write(dir.path().join("shared/b.sync"), "").unwrap();
        symlink("..data/a.sync", syncs.join("a.sync")).unwrap();
        // As Emacs locks a file that is being edited.
        symlink("user@host.42:1", syncs.join(".#a.sync")).unwrap();
        symlink("../shared", syncs.join("shared")).unwrap();
        symlink("../shared", syncs.join("again")).unwrap();
        symlink(".", syncs.join("loop")).unwrap();
        assert_eq!(names(RULES, &syncs), ["a.sync", "again/b.sync"]);
    }
}
