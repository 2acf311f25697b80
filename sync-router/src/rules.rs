//! Loads the rules and specs from their files.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use concert_lang::Texts;
use concert_lang::diagnostics::Report;
use concert_lang::program::Program;
use concert_lang::source::SourceFile;
use concert_lang::{requesting, shipped};
use concert_runtime::setting::DAY_MS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::files::{RULES, ReadError, SPECS};

/// The section `[rules]`: where rules and specs are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RulesArgs {
    /// Directory of the concept specs (`*.concept`).
    pub concepts: PathBuf,
    /// Directory of the rules (`*.sync`), which may have subdirectories.
    pub syncs: PathBuf,
    /// Milliseconds between checks of the rule files for changes; 0 disables the checks.
    #[schemars(range(min = 0, max = DAY_MS))]
    pub poll_ms: u64,
    /// `true` if changed rules become active only when each concept that they use has a worker with
    /// its spec, as in `concert dev`.
    #[serde(skip)]
    #[schemars(skip)]
    pub wait_for_workers: bool,
    /// Specs of the program's workers, for concepts whose spec the application does not have.
    #[serde(skip)]
    #[schemars(skip)]
    pub shipped: Vec<SourceFile>,
}

impl Default for RulesArgs {
    fn default() -> Self {
        Self {
            concepts: "concepts".into(),
            syncs: "syncs".into(),
            poll_ms: 500,
            wait_for_workers: false,
            shipped: Vec::new(),
        }
    }
}

/// Error of loading the rules.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The files are unreadable.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The specs or rules have errors; the text shows each one at its location.
    #[error("the specs or rules have errors\n{0}")]
    Broken(String),
}

impl LoadError {
    #[expect(clippy::needless_pass_by_value, reason = "used as a function that converts errors")]
    fn broken(report: Report) -> Self {
        Self::Broken(report.to_string().trim_end().to_owned())
    }
}

/// Valid rules, with their texts.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The compiled rules.
    pub program: Arc<Program>,
    /// Texts that it was compiled from.
    pub texts: Texts,
    /// Locations of the files.
    pub args: RulesArgs,
}

impl Rules {
    /// Reloads changed files, unless they have errors.
    pub(crate) fn or_newer(self) -> Self {
        match read(&self.args) {
            Ok(texts) if texts != self.texts => verify(texts, &self.args).unwrap_or(self),
            _ => self,
        }
    }
}

/// Reads and checks all rules and specs.
///
/// # Errors
/// See [`LoadError`]; it contains all errors of all files.
pub fn load(args: &RulesArgs) -> Result<Rules, LoadError> {
    verify(read(args)?, args)
}

/// Reads rules for inspection. Accepts rules that may leave a request without a response, which
/// [`load`] rejects.
///
/// # Errors
/// See [`LoadError`].
pub fn load_unverified(args: &RulesArgs) -> Result<Program, LoadError> {
    let texts = read(args)?;
    concert_lang::compile(&texts.concepts, &texts.syncs)
        .map(|(program, _)| program)
        .map_err(LoadError::broken)
}

/// Reads the specs of the application, and adds the specs of built-in workers that its rules use.
///
/// # Errors
/// A directory or file is unreadable. Missing rules are not an error.
pub fn specs(args: &RulesArgs) -> Result<Vec<SourceFile>, ReadError> {
    let concepts = SPECS.read(&args.concepts)?;
    let syncs = match RULES.read(&args.syncs) {
        Err(ReadError::Empty { .. }) => Vec::new(),
        Err(ReadError::File { source, .. }) if source.kind() == ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    Ok(with_shipped(args, concepts, &syncs))
}

/// Adds the specs of workers that the rules need.
fn with_shipped(
    args: &RulesArgs,
    concepts: Vec<SourceFile>,
    syncs: &[SourceFile],
) -> Vec<SourceFile> {
    let needed = shipped::needed(&args.shipped, &concepts, syncs).into_iter().cloned();
    joined(args, concepts, needed)
}

/// Adds specs as if they were files of the directory. So the stored texts equal those of an
/// application that has copies of these specs in its directory.
fn joined(
    args: &RulesArgs,
    mut concepts: Vec<SourceFile>,
    more: impl IntoIterator<Item = SourceFile>,
) -> Vec<SourceFile> {
    let as_files = more.into_iter().map(|spec| {
        let name = args.concepts.join(&spec.name).display().to_string();
        SourceFile::new(name, spec.text)
    });
    concepts.extend(as_files);
    concepts.sort_by(|a, b| a.name.cmp(&b.name));
    concepts
}

/// Reads the files and adds the specs that come with the program, without checks.
///
/// # Errors
/// A directory or file is unreadable, or there are no rules.
pub fn read(args: &RulesArgs) -> Result<Texts, LoadError> {
    Ok(completed(args, files(args)?))
}

fn files(args: &RulesArgs) -> Result<Texts, LoadError> {
    Ok(Texts { concepts: SPECS.read(&args.concepts)?, syncs: RULES.read(&args.syncs)? })
}

/// Adds the specs that come with the program.
fn completed(args: &RulesArgs, files: Texts) -> Texts {
    let Texts { concepts, syncs } = files;
    let concepts = with_shipped(args, concepts, &syncs);
    let built_in = (!requesting::is_declared_in(&concepts)).then(|| requesting::source_for(&syncs));
    Texts { concepts: joined(args, concepts, built_in), syncs }
}

/// The files of the last poll, and their completed texts. Unchanged files are not parsed again,
/// because polls are frequent and changes are rare.
#[derive(Default)]
pub(crate) struct Polled(Option<(Texts, Arc<Texts>)>);

impl Polled {
    pub(crate) fn read(&mut self, args: &RulesArgs) -> Result<Arc<Texts>, LoadError> {
        let files = files(args)?;
        if let Some((last, texts)) = &self.0
            && *last == files
        {
            return Ok(texts.clone());
        }
        let texts = Arc::new(completed(args, files.clone()));
        self.0 = Some((files, texts.clone()));
        Ok(texts)
    }
}

/// Checks and compiles texts.
pub(crate) fn verify(texts: Texts, args: &RulesArgs) -> Result<Rules, LoadError> {
    let (program, warnings) =
        concert_analysis::verify(&texts.concepts, &texts.syncs).map_err(LoadError::broken)?;
    for warning in &warnings {
        tracing::warn!(code = warning.code, "{}", warning.message);
    }
    Ok(Rules { program: Arc::new(program), texts, args: args.clone() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Writes files to the directories of an application.
    fn application(
        concepts: &[SourceFile],
        syncs: &[SourceFile],
    ) -> (tempfile::TempDir, RulesArgs) {
        let dir = tempfile::tempdir().unwrap();
        let args = RulesArgs {
            concepts: dir.path().join("concepts"),
            syncs: dir.path().join("syncs"),
            ..RulesArgs::default()
        };
        for (to, files) in [(&args.concepts, concepts), (&args.syncs, syncs)] {
            std::fs::create_dir(to).unwrap();
            for file in files {
                let name = Path::new(&file.name).file_name().unwrap();
                std::fs::write(to.join(name), &file.text).unwrap();
            }
        }
        (dir, args)
    }

    const GREET: &str = "sync Greet\nwhen\n    Requesting.request (path: \"/a\") : (request)\nthen\n    Requesting.respond (request)\n";

    #[test]
    fn built_in_spec_keeps_released_texts_and_version_unchanged() {
        let released: Texts = serde_json::from_str(include_str!(
            "../../crates/lang/tests/stored/rules.a93df77d26455ada.json"
        ))
        .unwrap();
        let is_own = |file: &&SourceFile| !file.name.ends_with(requesting::FILE_NAME);
        let own: Vec<SourceFile> = released.concepts.iter().filter(is_own).cloned().collect();
        assert_eq!(own.len(), released.concepts.len() - 1);

        for concepts in [&released.concepts, &own] {
            let (dir, args) = application(concepts, &released.syncs);
            let rules = load(&args).unwrap();
            assert_eq!(rules.program.version, "a93df77d26455ada");
            // The release stored paths relative to the application's directory.
            let prefix = format!("{}/", dir.path().display());
            let stored = serde_json::to_string(&rules.texts).unwrap().replace(&prefix, "");
            assert_eq!(stored, serde_json::to_string(&released).unwrap());
        }
    }

    #[test]
    fn built_in_concept_with_another_spec_is_rejected() {
        let changed = requesting::SPEC.replace("status?: Number", "status?: String");
        let spec = SourceFile::new("concepts/Mine.concept", changed);
        let (_dir, args) = application(&[spec], &[SourceFile::new("syncs/greet.sync", GREET)]);
        for error in [load(&args).unwrap_err(), load_unverified(&args).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("error[C0409]") && text.contains("Mine.concept:2:9"), "{text}");
        }
    }

    #[test]
    fn application_without_specs_has_the_built_in_one() {
        let (_dir, args) = application(&[], &[SourceFile::new("syncs/greet.sync", GREET)]);
        let names: Vec<Arc<str>> =
            load(&args).unwrap().program.concepts.iter().map(|spec| spec.name.clone()).collect();
        assert_eq!(names, ["Requesting".into()]);
        let (_dir, args) = application(&[], &[]);
        assert!(matches!(
            load(&args),
            Err(LoadError::Read(ReadError::Empty { extension: "sync", .. }))
        ));
    }

    #[test]
    fn changed_rules_are_reloaded_unless_invalid() {
        let dir = tempfile::tempdir().unwrap();
        let args = RulesArgs {
            concepts: Path::new(env!("CARGO_MANIFEST_DIR")).join("../concepts"),
            syncs: dir.path().to_owned(),
            ..RulesArgs::default()
        };
        let write = |path: &str| {
            let rule = format!(
                r#"sync Greet
when
    Requesting.request (path: "{path}") : (request)
then
    Requesting.respond (request)
"#
            );
            std::fs::write(dir.path().join("greet.sync"), rule).unwrap();
        };
        write("/hello");
        let hello = load(&args).unwrap();
        let mut polled = Polled::default();
        let first = polled.read(&args).unwrap();
        assert_eq!(*first, hello.texts);
        assert!(
            Arc::ptr_eq(&first, &polled.read(&args).unwrap()),
            "unchanged files are not parsed"
        );
        assert_eq!(hello.clone().or_newer().program.version, hello.program.version);
        write("/goodDay");
        let good_day = hello.clone().or_newer();
        assert_eq!(good_day.program.version, load(&args).unwrap().program.version);
        assert_ne!(good_day.program.version, hello.program.version);
        assert_eq!(*polled.read(&args).unwrap(), good_day.texts);
        std::fs::write(dir.path().join("greet.sync"), "sync Broken\n").unwrap();
        assert_eq!(hello.clone().or_newer().program.version, hello.program.version);
        std::fs::remove_file(dir.path().join("greet.sync")).unwrap();
        assert_eq!(hello.clone().or_newer().program.version, hello.program.version);
    }

    #[test]
    fn rules_in_subdirectories_are_loaded_and_hidden_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let args = RulesArgs {
            concepts: Path::new(env!("CARGO_MANIFEST_DIR")).join("../concepts"),
            syncs: dir.path().to_owned(),
            ..RulesArgs::default()
        };
        let rule = |name: &str| {
            format!(
                "sync {name}\nwhen\n    Requesting.request (path: \"/{name}\") : (request)\nthen\n    Requesting.respond (request)\n"
            )
        };
        std::fs::write(dir.path().join("a.sync"), rule("One")).unwrap();
        let flat = load(&args).unwrap();
        for hidden in [".#a.sync", "._a.sync"] {
            std::fs::write(dir.path().join(hidden), "\0not a rule").unwrap();
        }
        assert_eq!(read(&args).unwrap(), flat.texts);
        std::fs::create_dir(dir.path().join("admin")).unwrap();
        std::fs::write(dir.path().join("admin/b.sync"), rule("Two")).unwrap();
        let nested = flat.clone().or_newer();
        let names: Vec<&str> = nested.program.syncs.iter().map(|sync| &*sync.name).collect();
        assert_eq!(names, ["One", "Two"]);
        std::fs::write(dir.path().join("admin/b.sync"), "sync Two\n").unwrap();
        let broken = load(&args).unwrap_err().to_string();
        assert!(broken.contains("admin/b.sync:1:"), "{broken}");
    }
}
