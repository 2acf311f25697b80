//! The error for a path that no rule names.

use concert_lang::diagnostics::nearest;
use concert_lang::program::Program;

/// No rule waits for a request of a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no rule waits for a request of `{path}`; {hint}")]
pub struct UnknownPath {
    /// The path.
    pub path: String,
    /// Which path may be meant, or which there are.
    pub hint: String,
}

/// How many paths are named to someone who asked for one that is not there.
const NAMED_PATHS: usize = 12;

pub(crate) fn unknown(program: &Program, path: &str) -> UnknownPath {
    let known: Vec<&str> = program.routes.routes.keys().map(String::as_str).collect();
    let near = nearest(path, known.iter().copied());
    let hint = match (near, known.len()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, 0) => "no rule names a path".to_owned(),
        (None, count) => {
            let named: Vec<String> =
                known.iter().take(NAMED_PATHS).map(|known| format!("`{known}`")).collect();
            let more = match count.saturating_sub(NAMED_PATHS) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("there are {}{more}", named.join(", "))
        }
    };
    let path = path.to_owned();
    UnknownPath { path, hint }
}
