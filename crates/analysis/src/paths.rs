//! The error for a path that no rule handles.

use concert_lang::diagnostics::nearest;
use concert_lang::program::Program;

/// No rule handles a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no rule handles the path `{path}`; {hint}")]
pub struct UnknownPath {
    /// The path.
    pub path: String,
    /// A similar path, or the known paths.
    pub hint: String,
}

/// Maximum number of paths in the hint.
const NAMED_PATHS: usize = 12;

pub(crate) fn unknown(program: &Program, path: &str) -> UnknownPath {
    let known: Vec<&str> = program.routes.routes.keys().map(String::as_str).collect();
    let near = nearest(path, known.iter().copied());
    let hint = match (near, known.len()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, 0) => "no rule has a path".to_owned(),
        (None, count) => {
            let named: Vec<String> =
                known.iter().take(NAMED_PATHS).map(|known| format!("`{known}`")).collect();
            let more = match count.saturating_sub(NAMED_PATHS) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("known paths: {}{more}", named.join(", "))
        }
    };
    let path = path.to_owned();
    UnknownPath { path, hint }
}
