//! The configuration: `concert.toml`, the environment and the flags, merged, checked and typed.
//!
//! Precedence: flag, environment variable, file, default. All errors are reported together. A
//! command does not check values that it does not use; an unknown key is an error for all commands.

mod catalogue;
mod command;
mod file;
mod flags;
mod names;
mod problem;
mod sections;
mod show;
mod source;
mod text;
mod typed;
mod value;

#[cfg(test)]
mod released;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use concert_worker::Worker;
use serde_json::Value;

pub use self::command::{Command, of};
pub(crate) use self::file::NAME as FILE;
pub use self::flags::{SettingFlags, Uses};
pub use self::problem::{Problem, Problems};
pub(crate) use self::sections::Concept;
pub use self::sections::Settings;
pub(crate) use self::show::{ConfigArgs, run};
pub use self::text::DeprecatedName;

use crate::{output, workers};

use self::source::{Given, Merged, Origin};
use self::text::Flag;
use self::typed::typed;

/// All sources of settings.
struct Inputs<'a> {
    /// Directory of relative paths in the file and the defaults; empty for the current directory.
    root: PathBuf,
    /// Name and text of the file.
    file: Option<(String, String)>,
    variables: Vec<(OsString, OsString)>,
    flags: &'a [Flag],
}

/// A configuration, and its sources.
pub struct Loaded {
    /// Every setting.
    pub settings: Settings,
    /// Deprecated names in use.
    pub warnings: Vec<DeprecatedName>,
    merged: Merged,
}

impl<C: Uses> SettingFlags<C> {
    /// Reads the configuration of this command from all sources.
    ///
    /// # Errors
    /// All problems of the configuration.
    pub fn load(&self, workers: &[Worker]) -> Result<Loaded, Problems> {
        self.load_for(C::COMMAND, workers)
    }

    /// As [`load`](Self::load), for a command without a log: prints deprecation warnings to stderr.
    ///
    /// # Errors
    /// All problems of the configuration.
    pub(crate) fn load_and_warn(&self, workers: &[Worker]) -> Result<Settings, Problems> {
        Ok(self.load_all_and_warn(workers)?.settings)
    }

    /// As [`load_and_warn`](Self::load_and_warn), with the sources.
    ///
    /// # Errors
    /// All problems of the configuration.
    pub(crate) fn load_all_and_warn(&self, workers: &[Worker]) -> Result<Loaded, Problems> {
        let loaded = self.load(workers)?;
        for warning in &loaded.warnings {
            output::print_warning(&warning.to_string());
        }
        Ok(loaded)
    }

    /// The directory of the application, relative to the current one.
    pub(crate) fn app_dir(&self) -> PathBuf {
        if self.config.is_some() { PathBuf::new() } else { app_dir() }
    }

    /// Path of the configuration file, which may be missing.
    pub(crate) fn file(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.app_dir().join(FILE))
    }

    fn load_for(&self, command: Command, workers: &[Worker]) -> Result<Loaded, Problems> {
        self.load_in(self.app_dir(), command, workers)
    }

    fn load_in(
        &self,
        root: PathBuf,
        command: Command,
        workers: &[Worker],
    ) -> Result<Loaded, Problems> {
        let inputs = Inputs {
            file: read_file(self.config.as_deref(), &root)
                .map_err(|problem| Problems(vec![problem]))?,
            root,
            variables: std::env::vars_os().collect(),
            flags: &self.given,
        };
        load(command, &inputs, workers)
    }
}

/// Reads the settings of commands that read rules, for the application in a directory, or else in
/// the current directory or above.
///
/// # Errors
/// All problems of the configuration.
pub(crate) fn of_rules(dir: Option<&Path>, workers: &[Worker]) -> Result<Settings, Problems> {
    let root = match dir {
        Some(dir) if dir == Path::new(".") => PathBuf::new(),
        Some(dir) => dir.to_owned(),
        None => app_dir(),
    };
    let loaded = SettingFlags::<of::Rules>::default().load_in(root, Command::Rules, workers)?;
    for warning in &loaded.warnings {
        output::print_warning(&warning.to_string());
    }
    Ok(loaded.settings)
}

impl Loaded {
    /// Returns whether a key is set by anything other than a default.
    pub(crate) fn is_set(&self, path: &[&str]) -> bool {
        self.merged.origin(path) != source::DEFAULT
    }

    /// The values of all sections but `workers`.
    pub(crate) fn without_workers(&self) -> Value {
        let mut values = self.merged.value(&[]);
        if let Some(sections) = values.as_object_mut() {
            sections.remove("workers");
        }
        values
    }

    /// Logs deprecation warnings. Call it after logging has started.
    pub fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// The directory of the application, relative to the current one: the current directory if it has
/// rules, specs or a `concert.toml`, or else the nearest directory above with a `concert.toml`.
pub(crate) fn app_dir() -> PathBuf {
    std::env::current_dir().map(|dir| app_dir_above(&dir)).unwrap_or_default()
}

fn app_dir_above(dir: &Path) -> PathBuf {
    if ["concepts", "syncs"].iter().any(|name| dir.join(name).is_dir()) {
        return PathBuf::new();
    }
    let depth = dir.ancestors().position(|above| above.join(file::NAME).is_file());
    std::iter::repeat_n("..", depth.unwrap_or(0)).collect()
}

/// Settings that are paths.
const PATHS: [&str; 14] = [
    "app.data_dir",
    "app.keys_dir",
    "app.cache_dir",
    "http.large_values_cache_dir",
    "http.static",
    "console.token_file",
    "nats.creds",
    "nats.nkey",
    "nats.ca",
    "nats.cert",
    "nats.key",
    "rules.concepts",
    "rules.syncs",
    "workers.Profile.settings.password_blocklists",
];

/// Makes the paths of the file and the defaults relative to the directory of the application. Those
/// of flags and variables are relative to the current directory.
fn resolve(given: &mut Given, root: &Path) {
    let is_ours = matches!(given.origin, Origin::Default | Origin::File { .. });
    if !is_ours || !PATHS.contains(&&*given.path.join(".")) {
        return;
    }
    let join = |value: &mut Value| {
        if let Value::String(path) = value {
            *path = root.join(&*path).display().to_string();
        }
    };
    match &mut given.value {
        Value::Array(paths) => paths.iter_mut().for_each(join),
        path => join(path),
    }
}

/// A file given with `--config` must exist. `concert.toml` is optional.
fn read_file(named: Option<&Path>, root: &Path) -> Result<Option<(String, String)>, Problem> {
    let path = named.map_or_else(|| root.join(file::NAME), Path::to_owned);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Problem::Unreadable { path, source }),
    }
}

fn load(command: Command, inputs: &Inputs<'_>, workers: &[Worker]) -> Result<Loaded, Problems> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let file = inputs.file.as_ref();
    let mut given =
        file.map_or_else(Vec::new, |(path, text)| file::read(path, text, &mut problems));
    let named = given.iter().filter_map(|given| text::concept(&given.path).cloned());
    let concepts: Vec<String> =
        workers.iter().map(|worker| worker.concept().to_owned()).chain(named).collect();
    given.extend(text::environment(&inputs.variables, &concepts, &mut problems, &mut warnings));
    given.extend(text::flags(inputs.flags, &mut problems, &mut warnings));
    warnings.retain(|old: &DeprecatedName| command.uses(old.key));
    // Values that this command does not use are not checked.
    let uses = |path: &[String]| command.uses(&path.join("."));
    problems.retain(|problem| match problem {
        Problem::BadValue { key, .. } => command.uses(key),
        _ => true,
    });
    given.retain(|given| uses(&given.path));
    given.retain(|given| match checked(given) {
        Ok(()) => true,
        Err(problem) => {
            problems.push(problem);
            false
        }
    });
    let named = given
        .iter()
        .filter_map(|given| Some((text::concept(&given.path)?.clone(), given.origin.clone())));
    let named: BTreeMap<String, Origin> = named.rev().collect();
    let mut given: Vec<Given> = defaults(command).into_iter().chain(given).collect();
    given.iter_mut().for_each(|given| resolve(given, &inputs.root));
    let merged = Merged::new(given);
    let merged = merged.map_err(|error| Problems(vec![Problem::Conflict(error.to_string())]))?;
    let mut settings = typed((command, workers), &merged, &named, &mut problems);
    settings.rules.shipped = workers::specs(workers);
    if problems.is_empty() {
        Ok(Loaded { settings, warnings, merged })
    } else {
        Err(Problems(problems))
    }
}

/// Checks the kind of a value from the file. Values from other sources are read as that kind.
fn checked(given: &Given) -> Result<(), Problem> {
    match catalogue::find(&given.path) {
        catalogue::Found::Key(key) if key.path.split('.').count() == given.path.len() => {
            key.kind.check(&given.value).map_err(|message| Problem::BadValue {
                at: given.origin.to_string(),
                key: given.path.join("."),
                message,
            })
        }
        _ => Ok(()),
    }
}

fn defaults(command: Command) -> Vec<Given> {
    let of =
        |path: &str, value: Value| Given { path: text::path(path), value, origin: Origin::Default };
    let general = catalogue::keys()
        .iter()
        .filter(|key| !key.path.contains(catalogue::ANY) && !key.default.is_null());
    let general = general.map(|key| of(&key.path, key.default.clone()));
    let own = command.defaults().into_iter().map(|(path, value)| of(path, value));
    general.chain(own).collect()
}
