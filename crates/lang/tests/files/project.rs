//! The project's files, for tests.

use std::path::{Path, PathBuf};

use concert_lang::source::SourceFile;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of a directory with this extension, ordered by name.
pub(crate) fn paths(dir: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(dir)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    found
}

/// The source files of a directory, named without their path; invalid UTF-8 is replaced.
pub(crate) fn files(dir: &str, extension: &str) -> Vec<SourceFile> {
    paths(dir, extension).iter().map(|path| read(path)).collect()
}

pub(crate) fn read(path: &Path) -> SourceFile {
    let name = path.file_name().unwrap().to_string_lossy();
    SourceFile::new(name, String::from_utf8_lossy(&std::fs::read(path).unwrap()))
}
