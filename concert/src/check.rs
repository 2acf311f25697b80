//! `concert check`: every mistake in specs and rules, before they run.

mod github;
mod json;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use concert_lang::Texts;
use concert_lang::diagnostics::{Diagnostic, Severity, Style, render_in};
use concert_lang::program::Program;
use concert_lang::source::SourceFile;
use concert_runtime::terminal;
use concert_sync_router::RulesArgs;
use concert_worker::Worker;

use crate::say;
use crate::workers;

/// Arguments of `concert check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// The directory that holds `concepts` and `syncs`.
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The directory of the concept specs, if it is another.
    #[arg(long, value_name = "DIR")]
    pub(crate) concepts: Option<PathBuf>,
    /// The directory of the rules, if it is another.
    #[arg(long, value_name = "DIR")]
    pub(crate) syncs: Option<PathBuf>,
    /// How mistakes are told.
    #[arg(long, value_enum, default_value_t = Format::Human, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Whether to colour what is told to people; by itself only on a terminal, and not where
    /// `NO_COLOR` is set.
    #[arg(long, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub(crate) color: Colour,
    /// Ends with 1 for warnings, too.
    #[arg(long)]
    pub(crate) deny_warnings: bool,
}

/// How mistakes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// With the line of each, underlined.
    Human,
    /// One JSON document.
    Json,
    /// Annotations of GitHub's checks.
    Github,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// What was checked and what was found.
pub(crate) struct Checked {
    sources: Vec<SourceFile>,
    diagnostics: Vec<Diagnostic>,
    /// None if there are errors.
    program: Option<Program>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    rules: usize,
    concepts: usize,
    paths: usize,
}

impl Checked {
    fn of(Texts { concepts, syncs }: Texts) -> Self {
        match concert_analysis::verify(&concepts, &syncs) {
            Ok((program, diagnostics)) => Self {
                sources: concepts.into_iter().chain(syncs).collect(),
                diagnostics,
                program: Some(program),
            },
            Err(report) => {
                Self { sources: report.sources, diagnostics: report.diagnostics, program: None }
            }
        }
    }

    fn counts(&self) -> Option<Counts> {
        self.program.as_ref().map(|program| Counts {
            rules: program.syncs.len(),
            concepts: program.concepts.len(),
            paths: program.routes.routes.len(),
        })
    }

    fn count(&self, severity: Severity) -> usize {
        let found = self.diagnostics.iter();
        found.filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// The last line for people.
    fn summary(&self) -> String {
        let plural = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let found = format!("{}, {}", plural(errors, "error"), plural(warnings, "warning"));
        match self.counts() {
            Some(Counts { rules, concepts, paths }) => {
                let checked = format!(
                    "{}, {}, {}",
                    plural(rules, "rule"),
                    plural(concepts, "concept"),
                    plural(paths, "path")
                );
                match errors + warnings {
                    0 => format!("no mistakes: {checked}"),
                    _ => format!("{found}: {checked}"),
                }
            }
            None => found,
        }
    }
}

/// Checks and tells; an error when there is a mistake.
pub(crate) fn run(args: &CheckArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let of = |given: &Option<PathBuf>, name: &str| {
        given.clone().unwrap_or_else(|| below(&args.dir, name))
    };
    let files = RulesArgs {
        concepts: of(&args.concepts, "concepts"),
        syncs: of(&args.syncs, "syncs"),
        shipped: workers::specs(workers),
        ..RulesArgs::default()
    };
    let checked = Checked::of(concert_sync_router::read(&files)?);
    let text = match args.format {
        Format::Human => format!(
            "{}{}\n",
            render_in(style(args.color), &checked.diagnostics, &checked.sources),
            checked.summary()
        ),
        Format::Json => json::write(&checked)?,
        Format::Github => github::write(&checked),
    };
    say::text(&text).context("what was found cannot be told")?;
    if let Some(program) = &checked.program {
        workers::check_specs(workers, program, |_| false)?;
        workers::warn_of_missing(workers, program, |_| false);
    }
    let (errors, warnings) = (checked.count(Severity::Error), checked.count(Severity::Warning));
    if errors > 0 {
        bail!("the rules cannot be run");
    }
    if args.deny_warnings && warnings > 0 {
        bail!("there are warnings, and they are denied");
    }
    Ok(())
}

/// As people write it: `syncs`, and not `./syncs`.
fn below(dir: &Path, name: &str) -> PathBuf {
    if dir == Path::new(".") { PathBuf::from(name) } else { dir.join(name) }
}

fn style(colour: Colour) -> Style {
    let is_wanted = match colour {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => terminal::shows_colours(&std::io::stdout()),
    };
    if is_wanted { Style::Ansi } else { Style::Plain }
}
