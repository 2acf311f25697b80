//! `concert check`: checks specs and rules, and reports all errors.

mod github;
mod json;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use concert_lang::Texts;
use concert_lang::diagnostics::{Diagnostic, Severity, Style, render_in};
use concert_lang::program::Program;
use concert_lang::source::SourceFile;
use concert_runtime::terminal;
use concert_worker::Worker;

use crate::config;
use crate::output;
use crate::workers;

/// Arguments of `concert check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// Application directory, whose `concert.toml` names the directories of specs and rules; if
    /// not given, it is searched in the current directory and above
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Directory of the concept specs, instead of `rules.concepts`
    #[arg(long, value_name = "DIR")]
    pub(crate) concepts: Option<PathBuf>,
    /// Directory of the rules, instead of `rules.syncs`
    #[arg(long, value_name = "DIR")]
    pub(crate) syncs: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Human, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Colour the output; `auto` does so on a terminal, unless `NO_COLOR` is set
    #[arg(long, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub(crate) color: Colour,
    /// Exit 1 on warnings, too
    #[arg(long)]
    pub(crate) deny_warnings: bool,
}

/// Output format of `concert check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable, with the source lines
    Human,
    /// One JSON document
    Json,
    /// Annotations for GitHub Actions
    Github,
}

/// Use of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The checked sources and their diagnostics.
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

    /// Last line of the human-readable output.
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
                    0 => format!("no errors: {checked}"),
                    _ => format!("{found}: {checked}"),
                }
            }
            None => found,
        }
    }
}

/// Checks and prints the diagnostics. Fails if there are errors.
pub(crate) fn run(args: &CheckArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = config::of_rules(args.dir.as_deref(), workers)?;
    let mut files = settings.rules.clone();
    files.concepts = args.concepts.clone().unwrap_or(files.concepts);
    files.syncs = args.syncs.clone().unwrap_or(files.syncs);
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
    output::print_text(&text).context("cannot print the diagnostics")?;
    if let Some(program) = &checked.program {
        let is_external = |concept: &str| settings.is_external(concept);
        workers::check_specs(workers, program, is_external)?;
        workers::warn_of_missing(workers, program, is_external);
    }
    let (errors, warnings) = (checked.count(Severity::Error), checked.count(Severity::Warning));
    if errors > 0 {
        bail!("the rules have errors");
    }
    if args.deny_warnings && warnings > 0 {
        bail!("there are warnings, and --deny-warnings is set");
    }
    Ok(())
}

fn style(colour: Colour) -> Style {
    let is_wanted = match colour {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => terminal::shows_colours(&std::io::stdout()),
    };
    if is_wanted { Style::Ansi } else { Style::Plain }
}
