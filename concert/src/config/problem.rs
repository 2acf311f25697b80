//! Problems of a configuration.

use std::fmt;
use std::path::PathBuf;

use super::source::Origin;

/// One problem.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{at}: {message}")]
    Syntax {
        /// Position of the error.
        at: Origin,
        /// Message of the parser.
        message: String,
    },
    /// The key does not exist.
    #[error("{at}: unknown key `{key}`{}", suggested(.suggestion.as_deref()))]
    UnknownKey {
        /// Source of the value.
        at: Origin,
        /// The key.
        key: String,
        /// The most similar name.
        suggestion: Option<String>,
    },
    /// The value has the wrong type or is out of range.
    #[error("{at}: {key}: {message}")]
    BadValue {
        /// Source of the value.
        at: String,
        /// The key.
        key: String,
        /// Expected value.
        message: String,
    },
    /// The values of several keys contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// The concept has no worker.
    #[error(
        "{at}: no worker for the concept {concept} is compiled into this program{}; \
         set `command` to start it, or `external = true` if another process runs it",
        suggested(.suggestion.as_deref())
    )]
    NoWorker {
        /// Source that names the concept.
        at: Origin,
        /// The concept.
        concept: String,
        /// The most similar name.
        suggestion: Option<String>,
    },
}

fn suggested(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// All problems, one per line.
#[derive(Debug)]
pub struct Problems(pub(super) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has errors:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}
