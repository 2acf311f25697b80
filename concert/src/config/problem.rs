//! What is wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use super::source::Origin;

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{at}: {message}")]
    Syntax {
        /// The line.
        at: Origin,
        /// What the parser expects.
        message: String,
    },
    /// There is no such key.
    #[error("{at}: unknown key `{key}`{}", suggested(.suggestion.as_deref()))]
    UnknownKey {
        /// Where it is set.
        at: Origin,
        /// The key.
        key: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The value does not fit.
    #[error("{at}: {key}: {message}")]
    BadValue {
        /// Where it is set.
        at: String,
        /// The key.
        key: String,
        /// What is expected.
        message: String,
    },
    /// Keys do not fit together.
    #[error("{0}")]
    Together(String),
    /// The concept has no worker.
    #[error(
        "{at}: no worker for the concept {concept} is compiled into this program{}; set `external = true` if it is started by \
         someone else",
        suggested(.suggestion.as_deref())
    )]
    NoWorker {
        /// Where it is named.
        at: Origin,
        /// The concept.
        concept: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
}

fn suggested(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Everything that is wrong, each on a line.
#[derive(Debug)]
pub struct Problems(pub(super) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is wrong:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}
