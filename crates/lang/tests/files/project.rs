//! The project's files, as tests read them.

use std::path::{Path, PathBuf};

use concert_lang::source::SourceFile;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of a directory that end so, in the order of their names.
pub(crate) fn paths(dir: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(dir)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    found
}

/// Their texts, named by the files' names alone; what is no UTF-8 is shown as such.
pub(crate) fn files(dir: &str, extension: &str) -> Vec<SourceFile> {
    paths(dir, extension).iter().map(|path| read(path)).collect()
}

pub(crate) fn read(path: &Path) -> SourceFile {
    let name = path.file_name().unwrap().to_string_lossy();
    SourceFile::new(name, String::from_utf8_lossy(&std::fs::read(path).unwrap()))
}
