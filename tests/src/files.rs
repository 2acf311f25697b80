//! Searches the files of a stopped or running system.

use std::path::Path;

/// Files below a directory that contain a text. Adds the number of all files to `searched`.
///
/// # Errors
/// A file cannot be read.
pub fn files_with(dir: &Path, text: &str, searched: &mut usize) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, text, searched)?);
            continue;
        }
        *searched += 1;
        let bytes = std::fs::read(&path)?;
        if memchr::memmem::find(&bytes, text.as_bytes()).is_some() {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}
