//! The project's specs, for tests.

use concert_lang::requesting;
use concert_lang::source::SourceFile;

use crate::project::files;

/// The project's specs, and the built-in one.
pub(crate) fn specs() -> Vec<SourceFile> {
    let mut specs = files("concepts", "concept");
    specs.push(requesting::source());
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    specs
}
