//! Finds the server binaries: on the PATH, in the cache, or in pinned packages.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::packages::{self, FetchError, Progress};
use crate::program::{self, Program, shown};

/// Paths of both binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `nats-server`.
    pub nats_server: PathBuf,
    /// `mongod`.
    pub mongod: PathBuf,
}

/// Search paths.
#[derive(Debug, Clone)]
pub struct FindOptions {
    /// Directories to search first, as in the environment's `PATH`.
    pub path: Option<OsString>,
    /// Directory of downloaded binaries.
    pub cache_dir: PathBuf,
}

/// Environment variable with the directory of downloaded binaries.
const CACHE_VARIABLE: &str = "CONCERT_CACHE";

impl FindOptions {
    /// The user's `PATH`, and `CONCERT_CACHE` or else `concert` in the user's cache directory.
    ///
    /// # Errors
    /// The user has no home directory, so there is no cache directory.
    pub fn of_user() -> Result<Self, FindError> {
        let dir = |name| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        // The XDG specification says to ignore relative paths.
        let xdg = || dir("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
        let home = || std::env::home_dir().map(|home| home.join(".cache"));
        let user = || xdg().or_else(home).map(|cache| cache.join("concert"));
        Ok(Self {
            path: std::env::var_os("PATH"),
            cache_dir: dir(CACHE_VARIABLE).or_else(user).ok_or(FindError::NoCacheDir)?,
        })
    }
}

/// Errors of [`find_or_fetch`].
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The user has no cache directory.
    #[error(
        "no home directory, so there is no cache for downloaded servers; set a directory with \
         --cache-dir"
    )]
    NoCacheDir,
    /// The PATH does not contain the binary, and the download failed.
    #[error(
        "no {program} on the PATH, and it cannot be downloaded: {source}\n\
         Install {program} {needed} or newer, or set {variable} to an existing server",
        variable = .program.url_variable()
    )]
    Missing {
        /// The program.
        program: Program,
        /// The oldest supported version.
        needed: String,
        /// Cause of the failed download.
        source: Box<FetchError>,
    },
    /// The binary on the PATH is too old, and the download failed.
    #[error(
        "{path} is version {found}, and {needed} or newer is needed; the download of a newer one \
         failed: {source}",
        path = .path.display()
    )]
    TooOld {
        /// The program on the PATH.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The oldest supported version.
        needed: String,
        /// Cause of the failed download.
        source: Box<FetchError>,
    },
    /// The binary on the PATH does not run, and the download failed.
    #[error(
        "{path} does not run: {output}\n\
         The download of another one failed: {source}",
        path = .path.display()
    )]
    Broken {
        /// The program on the PATH.
        path: PathBuf,
        /// Its output.
        output: String,
        /// Cause of the failed download.
        source: Box<FetchError>,
    },
}

impl FindError {
    pub(crate) fn missing(program: Program, source: Box<FetchError>) -> Self {
        Self::Missing { program, needed: shown(program.oldest()), source }
    }
}

/// Finds both binaries. Downloads missing ones, and reports the progress.
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
        Some(path) => Some((program::version(&path).await, path)),
        None => None,
    };
    let needed = shown(program.oldest());
    let unusable = match on_path {
        Some((Ok(found), path)) if found >= program.oldest() => return Ok(path),
        Some((Ok(found), path)) => {
            let (found, needed) = (shown(found), needed.clone());
            progress(Progress::TooOld { path: path.clone(), found: found.clone(), needed });
            Some((Ok(found), path))
        }
        Some((Err(output), path)) => {
            progress(Progress::Broken { path: path.clone(), output: output.clone() });
            Some((Err(output), path))
        }
        None => None,
    };
    packages::cached_or_fetched(program, &options.cache_dir, progress).await.map_err(|source| {
        let source = Box::new(source);
        match unusable {
            Some((Ok(found), path)) => FindError::TooOld { path, found, needed, source },
            Some((Err(output), path)) => FindError::Broken { path, output, source },
            None => FindError::missing(program, source),
        }
    })
}

fn on_path(program: Program, options: &FindOptions) -> Option<PathBuf> {
    let dirs = std::env::split_paths(options.path.as_ref()?);
    dirs.map(|dir| dir.join(program.name())).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_for_unsupported_platform_says_what_to_install() {
        let source =
            FetchError::NoPackage { program: Program::Mongod, os: "windows", arch: "x86_64" };
        let error = FindError::missing(Program::Mongod, Box::new(source));
        assert_eq!(
            error.to_string(),
            "no mongod on the PATH, and it cannot be downloaded: no package of mongod exists for windows on x86_64\n\
             Install mongod 5.0.0 or newer, or set MONGODB_URI to an existing server"
        );
    }
}
