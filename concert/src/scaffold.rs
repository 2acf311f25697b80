//! `concert new` and `concert add`: write an application, and a concept of it, from templates.

mod language;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use concert_lang::concept;
use concert_lang::source::SourceFile;
use concert_wire::access::Access;
use concert_wire::name::ConceptName;
use concert_worker::Worker;
use toml_edit::{Array, DocumentMut, Item, Table, value};

use self::language::Language;
use crate::config::{self, FILE};
use crate::output;

/// The concept of a new application, and the concept of the templates.
const NOTE: &str = "Note";

const SPEC: &str = include_str!("../templates/concepts/Note.concept");
const RULES: &str = include_str!("../templates/note.sync");
const SETTINGS: &str = include_str!("../templates/app/concert.toml");
const README: &str = include_str!("../templates/app/README.md");
const IGNORED: &str = include_str!("../templates/app/gitignore");

/// Arguments of `concert new`.
#[derive(Debug, Clone, Args)]
pub(crate) struct NewArgs {
    /// Directory of the application; it must be empty or missing
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Language of the worker
    #[arg(long, value_enum, default_value_t = Language::TypeScript, value_name = "LANGUAGE")]
    pub(crate) lang: Language,
    #[command(flatten)]
    pub(crate) sdk: SdkArgs,
}

/// Arguments of `concert add`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AddArgs {
    /// Name of the concept, such as `Comment`
    #[arg(value_name = "CONCEPT")]
    pub(crate) concept: ConceptName,
    /// Language of the worker; if not given, that of the application
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub(crate) lang: Option<Language>,
    #[command(flatten)]
    pub(crate) sdk: SdkArgs,
}

/// Location of the SDKs, which are not published yet.
#[derive(Debug, Clone, Args)]
pub(crate) struct SdkArgs {
    /// Checkout of Concert with the SDKs; if not given, the one from which this program was built
    #[arg(long, value_name = "DIR")]
    sdk_path: Option<PathBuf>,
}

impl SdkArgs {
    /// Absolute path of the checkout.
    fn path(&self, language: Language) -> anyhow::Result<PathBuf> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let checkout = self.sdk_path.as_deref().unwrap_or(&built_from);
        let has_sdk = checkout.join(language.sdk()).is_dir();
        ensure!(
            has_sdk,
            "{} has no directory {}; the SDKs are not published yet: name a checkout of Concert \
             with --sdk-path",
            checkout.display(),
            language.sdk()
        );
        checkout.canonicalize().with_context(|| format!("cannot read {}", checkout.display()))
    }
}

/// A file to write.
struct NewFile {
    path: PathBuf,
    text: String,
}

/// Writes an application.
pub(crate) fn new(args: &NewArgs) -> anyhow::Result<()> {
    let NewArgs { dir, lang, sdk } = args;
    ensure_empty(dir)?;
    let sdk = sdk.path(*lang)?;
    let app = app_name(dir)?;
    let file = |name: &str, text: String| NewFile { path: dir.join(name), text };
    let mut files = vec![
        file("README.md", readme(&app, *lang)),
        file(".gitignore", IGNORED.replace("@IGNORE@", lang.ignored())),
    ];
    files.extend(project(dir, *lang, &app, &sdk));
    let name: ConceptName = NOTE.parse()?;
    files.extend(of_concept(dir, &dir.join("concepts"), &dir.join("syncs"), &name, *lang)?);
    let settings = with_worker(&SETTINGS.replace("@APP@", &app), &name, *lang)?;
    files.push(file(FILE, settings));
    write(&files)?;
    let mut next = lang.build_of_sdk(&sdk);
    next.push(format!("cd {}", dir.display()));
    next.extend(lang.install().lines().map(str::to_owned));
    next.push("concert dev".to_owned());
    output::print_line(format_args!("\nNext:\n  {}", next.join("\n  ")));
    Ok(())
}

/// Writes a concept of the application in the current directory or above.
pub(crate) fn add(args: &AddArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let dir = config::app_dir();
    let rules = config::of_rules(None, workers)?.rules;
    if let Err(taken) = Access::new([args.concept.clone()], Vec::new()) {
        bail!(taken.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    let language = args.lang.or_else(|| Language::of_app(&dir)).unwrap_or(Language::TypeScript);
    let settings_file = dir.join(FILE);
    let before = match fs::read_to_string(&settings_file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("cannot read {}", settings_file.display()))?,
    };
    let settings = with_worker(&before, &args.concept, language)
        .with_context(|| format!("cannot change {}", settings_file.display()))?;
    let mut files = of_concept(&dir, &rules.concepts, &rules.syncs, &args.concept, language)?;
    if !dir.join(language.manifest()).exists() {
        let app = app_name(&dir.join(".").canonicalize()?)?;
        files.extend(project(&dir, language, &app, &args.sdk.path(language)?));
    }
    write(&files)?;
    fs::write(&settings_file, settings)
        .with_context(|| format!("cannot write {}", settings_file.display()))?;
    output::print_line(format_args!("changed {}", settings_file.display()));
    Ok(())
}

fn ensure_empty(dir: &Path) -> anyhow::Result<()> {
    match fs::read_dir(dir) {
        Ok(mut entries) => ensure!(
            entries.next().is_none(),
            "{} is not empty; choose another directory, or use `concert add` in it",
            dir.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    }
    Ok(())
}

/// Name of the application: that of its directory, in a form that package managers accept.
fn app_name(dir: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(dir)?;
    let name = absolute.file_name().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.to_string_lossy().chars().map(plain).collect();
    let name = name.trim_matches('-');
    Ok(match name.starts_with(|first: char| first.is_ascii_lowercase()) {
        true => name.to_owned(),
        false => format!("app-{name}").trim_matches('-').to_owned(),
    })
}

fn readme(app: &str, language: Language) -> String {
    let types = language
        .types(NOTE)
        .map(|command| format!("{command}   # writes the types of its worker\n"));
    README
        .replace("@TYPES@\n", &types.unwrap_or_default())
        .replace("@APP@", app)
        .replace("@WORKERS@", language.workers())
        .replace("@INSTALL@", language.install())
        .replace("@TEST@", language.test())
}

/// The files of the language's package manager.
fn project(dir: &Path, language: Language, app: &str, sdk: &Path) -> Vec<NewFile> {
    let sdk = sdk.display().to_string();
    let files = language.project().iter();
    let files = files.map(|(name, text)| NewFile {
        path: dir.join(name),
        text: text.replace("@APP@", app).replace("@SDK@", &sdk),
    });
    files.collect()
}

/// Spec, rules, worker and test of a concept.
fn of_concept(
    dir: &Path,
    concepts: &Path,
    syncs: &Path,
    name: &ConceptName,
    language: Language,
) -> anyhow::Result<Vec<NewFile>> {
    let renamed = |text: &str| renamed(text, name);
    let spec = renamed(SPEC);
    let spec_name = format!("{name}.concept");
    if let Err(error) = concept::parse_one(&spec_name, &spec) {
        bail!("`{name}` cannot be the name of a new concept; choose another\n{error}");
    }
    // A long name changes where lines break.
    let rules = SourceFile::new(format!("{}.sync", words(name.as_str()).join("-")), renamed(RULES));
    let formatted = concert_lang::format(&rules).map_err(|report| anyhow::anyhow!("{report}"))?;
    let mut files = vec![
        NewFile { path: concepts.join(spec_name), text: spec },
        NewFile { path: syncs.join(&rules.name), text: formatted },
    ];
    let own = language.files(name.as_str()).into_iter();
    files.extend(own.map(|(path, text)| NewFile { path: dir.join(path), text: renamed(text) }));
    Ok(files)
}

/// A text of the templates for a concept of another name.
fn renamed(text: &str, name: &ConceptName) -> String {
    let name = name.as_str();
    let lower = name.chars().take(1).map(|first| first.to_ascii_lowercase());
    let lower: String = lower.chain(name.chars().skip(1)).collect();
    // The new names may contain the old ones.
    let parts = text.split(NOTE).map(|part| part.replace(&NOTE.to_lowercase(), &lower));
    parts.collect::<Vec<_>>().join(name)
}

/// The words of a name, in lower case: `FocusStats` has two.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut was_upper = true;
    for c in name.chars() {
        match words.last_mut() {
            Some(word) if was_upper || !c.is_ascii_uppercase() => word.push(c.to_ascii_lowercase()),
            _ => words.push(c.to_ascii_lowercase().to_string()),
        }
        was_upper = c.is_ascii_uppercase();
    }
    words
}

/// Adds the section of a worker to the text of a `concert.toml`, and keeps the rest unchanged.
fn with_worker(text: &str, name: &ConceptName, language: Language) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    let workers = document.entry("workers").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let workers = workers.as_table_mut().context("`workers` is not written as a section")?;
    ensure!(
        !workers.contains_key(name.as_str()),
        "the section `workers.{name}` exists; remove it, or choose another name"
    );
    let mut worker = Table::new();
    worker.insert("command", value(Array::from_iter(language.command(name.as_str()))));
    worker.insert("watch", value(Array::from_iter(language.watched(name.as_str()))));
    if !text.trim().is_empty() {
        worker.decor_mut().set_prefix("\n");
    }
    workers.insert(name.as_str(), Item::Table(worker));
    Ok(document.to_string())
}

/// Writes files, unless one of them exists.
fn write(files: &[NewFile]) -> anyhow::Result<()> {
    for NewFile { path, .. } in files {
        ensure!(!path.exists(), "{} exists; move it, or choose another name", path.display());
    }
    for NewFile { path, text } in files {
        let written = || {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            fs::write(path, text)
        };
        written().with_context(|| format!("cannot write {}", path.display()))?;
        output::print_line(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
