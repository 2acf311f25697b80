//! The server programs, and their versions.

use std::fmt;
use std::path::Path;

use tokio::process::Command;

/// A server binary that Concert needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// NATS server.
    NatsServer,
    /// MongoDB server.
    Mongod,
}

/// A version: major, minor, patch.
pub(crate) type Version = (u32, u32, u32);

impl Program {
    /// The name of the executable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::Mongod => "mongod",
        }
    }

    /// Oldest supported version: direct get of several subjects and pinned consumers came
    /// with nats-server 2.11.
    pub(crate) const fn oldest(self) -> Version {
        match self {
            Self::NatsServer => (2, 11, 0),
            Self::Mongod => (5, 0, 0),
        }
    }

    /// Environment variable with the address of an existing server.
    pub(crate) const fn url_variable(self) -> &'static str {
        match self {
            Self::NatsServer => "NATS_URL",
            Self::Mongod => "MONGODB_URI",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The version that a program prints; `None` if it cannot run or prints none.
pub(crate) async fn version(path: &Path) -> Option<Version> {
    let output = Command::new(path).arg("--version").output().await.ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The first version such as `1.2.3` or `v1.2.3` in a text.
fn parse(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split(['.', '-', '+', ',']).map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Some((major, minor, patch)),
            _ => None,
        }
    })
}

/// Formats a version.
pub(crate) fn shown((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_parsed_from_program_output() {
        assert_eq!(parse("nats-server: v2.15.1\n"), Some((2, 15, 1)));
        assert_eq!(parse("nats-server: v2.11.0-RC.3"), Some((2, 11, 0)));
        assert_eq!(parse("db version v6.0.5\nBuild Info: {"), Some((6, 0, 5)));
        assert_eq!(parse("nats-server: dev"), None);
        assert!((2, 9, 10) < Program::NatsServer.oldest());
    }
}
