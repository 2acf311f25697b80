//! Where the servers' programs are: on the PATH, in the cache, or in pinned packages.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::packages::{self, FetchError, Progress};

/// A program that Concert needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The bus.
    NatsServer,
    /// The database.
    Mongod,
}

/// A version: major, minor, patch.
type Version = (u32, u32, u32);

impl Program {
    /// The name of the executable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::Mongod => "mongod",
        }
    }

    /// The oldest version that will do: direct get of several subjects and pinned consumers came
    /// with nats-server 2.11.
    const fn oldest(self) -> Version {
        match self {
            Self::NatsServer => (2, 11, 0),
            Self::Mongod => (5, 0, 0),
        }
    }

    /// The environment variable that names a server which is there already.
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

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `nats-server`.
    pub nats_server: PathBuf,
    /// `mongod`.
    pub mongod: PathBuf,
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct FindOptions {
    /// The directories to look in first, as in the environment's `PATH`.
    pub path: Option<OsString>,
    /// Where fetched programs are kept.
    pub cache_dir: PathBuf,
}

/// The variable with the directory of fetched programs.
const CACHE_VARIABLE: &str = "CONCERT_CACHE";

impl FindOptions {
    /// The user's `PATH`, and `CONCERT_CACHE` or else `concert` in the user's cache directory.
    ///
    /// # Errors
    /// The user has no home directory, so there is no cache directory.
    pub fn of_user() -> Result<Self, FindError> {
        let dir = |name| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        // XDG base directories: a relative path is to be ignored.
        let xdg = || dir("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
        let home = || std::env::home_dir().map(|home| home.join(".cache"));
        let user = || xdg().or_else(home).map(|cache| cache.join("concert"));
        Ok(Self {
            path: std::env::var_os("PATH"),
            cache_dir: dir(CACHE_VARIABLE).or_else(user).ok_or(FindError::NoCacheDir)?,
        })
    }
}

/// Why a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is no directory for fetched programs.
    #[error(
        "no home directory, so there is no cache for downloaded servers; set a directory with --cache-dir"
    )]
    NoCacheDir,
    /// It cannot be fetched, and the PATH has none.
    #[error("no {program} on the PATH, and it cannot be downloaded: {source}\nInstall {program} {needed} or newer, or set {variable} to an existing server", variable = .program.url_variable())]
    Missing {
        /// The program.
        program: Program,
        /// The oldest version that will do.
        needed: String,
        /// Why it cannot be fetched.
        source: FetchError,
    },
    /// The one on the PATH is too old, and no other can be fetched.
    #[error("{path} is version {found}, and {needed} or newer is needed; no other can be fetched: {source}", path = .path.display())]
    TooOld {
        /// The program on the PATH.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The oldest version that will do.
        needed: String,
        /// Why no other can be fetched.
        source: FetchError,
    },
}

impl FindError {
    pub(crate) fn missing(program: Program, source: FetchError) -> Self {
        Self::Missing { program, needed: shown(program.oldest()), source }
    }
}

/// Finds both programs; what is missing is fetched, and told as it goes.
///
/// # Errors
/// See [`FindError`].
pub async fn find_or_fetch(
    options: &FindOptions,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Binaries, FindError> {
    Ok(Binaries {
        nats_server: find(Program::NatsServer, options, progress).await?,
        mongod: find(Program::Mongod, options, progress).await?,
    })
}

async fn find(
    program: Program,
    options: &FindOptions,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<PathBuf, FindError> {
    let on_path = match on_path(program, options) {
        Some(path) => Some((version(&path).await, path)),
        None => None,
    };
    let needed = shown(program.oldest());
    let too_old = match on_path {
        Some((Some(found), path)) if found >= program.oldest() => return Ok(path),
        Some((found, path)) => {
            let found = found.map_or_else(|| "unknown".to_owned(), shown);
            progress(Progress::TooOld {
                path: path.clone(),
                found: found.clone(),
                needed: needed.clone(),
            });
            Some((found, path))
        }
        None => None,
    };
    packages::cached_or_fetched(program, &options.cache_dir, progress).await.map_err(|source| {
        match too_old {
            Some((found, path)) => FindError::TooOld { path, found, needed, source },
            None => FindError::missing(program, source),
        }
    })
}

fn on_path(program: Program, options: &FindOptions) -> Option<PathBuf> {
    let dirs = std::env::split_paths(options.path.as_ref()?);
    dirs.map(|dir| dir.join(program.name())).find(|path| path.is_file())
}

/// The version that a program tells of itself; `None` when it cannot be run or tells none.
pub(crate) async fn version(path: &Path) -> Option<Version> {
    let output = Command::new(path).arg("--version").output().await.ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The first `1.2.3` of a text, with or without a `v` before it.
fn parse(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split(['.', '-', '+', ',']).map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Some((major, minor, patch)),
            _ => None,
        }
    })
}

fn shown((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_programs_say() {
        assert_eq!(parse("nats-server: v2.15.1\n"), Some((2, 15, 1)));
        assert_eq!(parse("nats-server: v2.11.0-RC.3"), Some((2, 11, 0)));
        assert_eq!(parse("db version v6.0.5\nBuild Info: {"), Some((6, 0, 5)));
        assert_eq!(parse("nats-server: dev"), None);
        assert!((2, 9, 10) < Program::NatsServer.oldest());
    }
}
