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

/// Number of lines of a program's output in an error.
const SHOWN_LINES: usize = 8;

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

/// The version that a program prints.
///
/// # Errors
/// The program cannot run, or prints no version. The error is what it prints, such as the name of a
/// missing library.
pub(crate) async fn version(path: &Path) -> Result<Version, String> {
    let run = Command::new(path).arg("--version").output().await;
    let output = run.map_err(|error| error.to_string())?;
    let printed = String::from_utf8_lossy(&output.stdout);
    parse(&printed).ok_or_else(|| {
        let text = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
        match text.trim() {
            // Such as `signal: 4 (SIGILL)` on a processor without AVX.
            "" => output.status.to_string(),
            text => text.lines().take(SHOWN_LINES).collect::<Vec<_>>().join("\n"),
        }
    })
}

/// The first version such as `1.2.3` or `v1.2.3` in a text.
pub(crate) fn parse(text: &str) -> Option<Version> {
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

    /// Creates a program that runs this script. Written by a separate process: a process that
    /// another thread starts concurrently would inherit the open file, and could not be executed.
    fn script(dir: &Path, text: &str) -> std::path::PathBuf {
        let path = dir.join("program");
        let made = std::process::Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#])
            .arg(&path)
            .arg(text)
            .status();
        assert!(made.unwrap().success());
        path
    }

    #[tokio::test]
    async fn error_of_a_broken_program_is_what_it_prints() {
        let dir = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("echo 'libcrypto.so.1.1: cannot open' >&2; exit 127", "libcrypto.so.1.1: cannot open"),
            ("kill -ILL $$", "signal: 4"),
            ("echo dev", "dev"),
        ] {
            let error = version(&script(dir.path(), text)).await.unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = version(&dir.path().join("missing")).await.unwrap_err();
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn version_is_parsed_from_program_output() {
        assert_eq!(parse("nats-server: v2.15.1\n"), Some((2, 15, 1)));
        assert_eq!(parse("nats-server: v2.11.0-RC.3"), Some((2, 11, 0)));
        assert_eq!(parse("db version v6.0.5\nBuild Info: {"), Some((6, 0, 5)));
        assert_eq!(parse("nats-server: dev"), None);
        assert!((2, 9, 10) < Program::NatsServer.oldest());
    }
}
