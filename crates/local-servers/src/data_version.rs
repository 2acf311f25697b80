//! The version of the program that last wrote a data directory.

use std::path::Path;

use crate::error::StartError;
use crate::program::{Program, Version, parse, shown};

/// Checks that a program of this version can use the data.
///
/// # Errors
/// The data was written by a newer program, or by one that is too old for an upgrade in one step.
pub(crate) fn check(
    data_dir: &Path,
    binary: &Path,
    program: Program,
    version: Version,
) -> Result<(), StartError> {
    let recorded = std::fs::read_to_string(file(data_dir, program)).unwrap_or_default();
    let Some(written_by) = parse(&recorded) else {
        return Ok(());
    };
    let is_older = (version.0, version.1) < (written_by.0, written_by.1);
    // MongoDB supports upgrades from one major version to the next only.
    let skips_major = program == Program::Mongod && version.0 > written_by.0 + 1;
    if is_older || skips_major {
        return Err(StartError::OtherVersion {
            program,
            binary: binary.to_owned(),
            version: shown(version),
            data_dir: data_dir.to_owned(),
            written_by: shown(written_by),
        });
    }
    Ok(())
}

/// Records the version, after the server has started.
pub(crate) fn record(data_dir: &Path, program: Program, version: Version) -> std::io::Result<()> {
    std::fs::write(file(data_dir, program), format!("{}\n", shown(version)))
}

fn file(data_dir: &Path, program: Program) -> std::path::PathBuf {
    data_dir.join(format!("{}.version", program.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_program_and_skipped_major_version_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        for (program, written_by, version, is_ok) in [
            (Program::NatsServer, (2, 15, 1), (2, 15, 0), true),
            (Program::NatsServer, (2, 15, 1), (2, 16, 0), true),
            (Program::NatsServer, (2, 15, 1), (2, 11, 9), false),
            (Program::Mongod, (6, 0, 5), (7, 0, 1), true),
            (Program::Mongod, (6, 0, 5), (8, 0, 0), false),
            (Program::Mongod, (7, 0, 1), (6, 0, 5), false),
        ] {
            let binary = Path::new("/usr/bin/server");
            record(dir.path(), program, written_by).unwrap();
            let checked = check(dir.path(), binary, program, version);
            assert_eq!(checked.is_ok(), is_ok, "{program} {written_by:?} {version:?}");
            if let Err(error) = checked {
                let error = error.to_string();
                assert!(error.contains("/usr/bin/server") && error.contains("PATH"), "{error}");
            }
        }
    }

    #[test]
    fn data_without_a_recorded_version_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path(), Path::new("x"), Program::NatsServer, (2, 11, 0)).is_ok());
    }
}
