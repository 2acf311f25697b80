//! `concert gen`: writes the types of a concept's worker in the language of the worker.

mod python;
mod typescript;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use concert_lang::concept;
use concert_lang::spec::{ActionSpec, ConceptSpec, Params};
use concert_wire::name::ConceptName;
use concert_worker::Worker;

use crate::config;
use crate::output;

/// Arguments of `concert gen`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GenArgs {
    /// Name of the concept; its spec is a file of `rules.concepts`
    #[arg(value_name = "CONCEPT")]
    pub(crate) concept: ConceptName,
    /// Language of the worker
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub(crate) lang: Language,
    /// File to write; if not given, standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Change nothing; exit 1 if the file of `--out` differs
    #[arg(long, requires = "out")]
    pub(crate) check: bool,
}

/// A language with generated types. In Rust, handlers declare the types of their parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// TypeScript interfaces
    #[value(name = "ts")]
    TypeScript,
    /// Python `TypedDict`s and protocols
    #[value(name = "py")]
    Python,
}

/// Writes or checks the types.
pub(crate) fn run(args: &GenArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let GenArgs { concept, lang, out, check } = args;
    let concepts = config::of_rules(None, workers)?.rules.concepts;
    let types = of_file(&concepts.join(format!("{concept}.concept")), *lang)?;
    let Some(out) = out else {
        return output::print_text(&types).context("cannot print the types");
    };
    if *check {
        let found = fs::read_to_string(out);
        let found = found.with_context(|| format!("cannot read {}", out.display()))?;
        ensure!(
            found == types,
            "{} differs from the spec of {concept}; run `concert gen` without --check",
            out.display()
        );
        return Ok(());
    }
    fs::write(out, types).with_context(|| format!("cannot write {}", out.display()))?;
    output::print_line(format_args!("wrote {}", out.display()));
    Ok(())
}

/// The types of the spec in a file.
fn of_file(path: &Path, language: Language) -> anyhow::Result<String> {
    let read = fs::read_to_string(path);
    let text = read.with_context(|| {
        format!("cannot read the spec {}; `concert gen` reads `rules.concepts`", path.display())
    })?;
    let name = path.display().to_string();
    let spec = concept::parse_one(&name, &text).map_err(anyhow::Error::msg)?;
    Ok(match language {
        Language::TypeScript => typescript::of(&spec),
        Language::Python => python::of(&spec),
    })
}

/// One parameter list, with the name of its type.
struct Shape<'a> {
    name: String,
    /// Purpose of the type, as a sentence.
    about: String,
    params: &'a Params,
}

/// The types of a concept, in the order of its spec.
fn shapes(spec: &ConceptSpec) -> Vec<Shape<'_>> {
    let mut shapes = Vec::new();
    let mut add = |of: &str, suffix: &str, part: &str, params| {
        let about = format!("{part} of `{of}`.");
        shapes.push(Shape { name: type_name(of, suffix), about, params });
    };
    for action in &spec.actions {
        add(&action.name, INPUT, "Input", &action.input);
        if let Some(success) = &action.success {
            add(&action.name, OUTPUT, "Output", success);
        }
    }
    for query in &spec.queries {
        add(&query.name, QUERY, "Input", &query.input);
        add(&query.name, ROW, "A row", &query.output);
    }
    shapes
}

const INPUT: &str = "Input";
const OUTPUT: &str = "Output";
const QUERY: &str = "Query";
const ROW: &str = "Row";
/// Name of the type of failures.
const REFUSAL: &str = "Refusal";

/// Name of a type of an action or query: `_byWriter` and `Row` give `ByWriterRow`.
fn type_name(of: &str, suffix: &str) -> String {
    format!("{}{suffix}", capitalized(of.strip_prefix('_').unwrap_or(of)))
}

/// The type of an action's output: a union, which both languages write in the same way.
fn outcome(action: &ActionSpec) -> String {
    let success = action.success.is_some().then(|| type_name(&action.name, OUTPUT));
    let failure = action.can_fail.then(|| REFUSAL.to_owned());
    success.into_iter().chain(failure).collect::<Vec<_>>().join(" | ")
}

/// Texts as literals, whose syntax both languages have from JSON.
fn literals(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| serde_json::Value::from(text.as_str()).to_string()).collect()
}

fn capitalized(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests;
