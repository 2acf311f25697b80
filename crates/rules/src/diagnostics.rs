//! What is wrong with rules and specs: every mistake, each with its code, its place, and what to do.

use std::fmt::{self, Write as _};

use crate::source::{SourceFile, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The rules cannot be run.
    Error,
    /// The rules can be run, and may not do what was meant.
    Warning,
}

/// Every kind of mistake: code and title. A kind keeps its code for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Such as `C0101`.
    pub code: &'static str,
    /// What it is about.
    pub title: &'static str,
}

macro_rules! kinds {
    ($($name:ident $code:literal $title:literal)*) => {
        $(#[doc = $title] pub const $name: Kind = Kind { code: $code, title: $title };)*
        /// All kinds, in the order of their codes.
        pub const KINDS: &[Kind] = &[$($name),*];
    };
}

kinds! {
    SYNTAX "C0101" "something else is expected here"
    CHARACTER "C0102" "a character that the language does not have"
    STRING "C0103" "a string that is not one"
    NUMBER "C0104" "a number that is not one of JSON, or that no double can hold"
    KEYWORD "C0105" "a keyword where a name must stand"
    CASE "C0106" "a name that begins with the wrong case"
    REPEATED_KEY "C0107" "a key stands twice in one list"
    MISSING_PART "C0108" "a rule lacks a part"
    TOO_DEEP "C0109" "an expression is nested too deeply"
    BAD_PATH "C0110" "a path does not begin with `/`"
    UNKNOWN_CONCEPT "C0201" "no spec declares this concept"
    UNKNOWN_ACTION "C0202" "the concept has no such action"
    UNKNOWN_PARAMETER "C0203" "the action has no such parameter"
    MISSING_ARGUMENT "C0204" "a required argument is missing"
    REPEATED_RULE "C0205" "two rules have one name"
    NOT_AN_ACTION "C0206" "a query stands where an action must stand"
    UNKNOWN_OUTPUT "C0207" "the action has no such output"
    UNBOUND "C0301" "a variable is used before it is bound"
    REBOUND "C0302" "a variable is bound twice"
    NEVER_MATCHES "C0303" "a pattern can never match"
    WRONG_TYPE "C0304" "a value has the wrong type"
    SECRET "C0305" "a secret goes where it must not"
    UNUSED "C0306" "a variable is never used"
    NOT_YET "C0307" "a part of the language that this version does not run"
    CONFLICT "C0308" "a key of a path is used as two types"
    BAD_SPEC "C0401" "a spec is malformed"
    REPEATED_CONCEPT "C0402" "two specs have one name"
    REPEATED_SIGNATURE "C0403" "an action has two outcomes of one kind"
    DIFFERENT_INPUT "C0404" "the signatures of an action differ in their input"
    BAD_FAILURE "C0405" "a failure is not `(error: String)`"
    QUERY_NAME "C0406" "a query's name does not begin with `_`, or an action's does"
    RESERVED "C0407" "the concept's name is reserved"
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Such as `C0101`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What is wrong; lower case, no final stop, what the user wrote in backticks.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake.
    pub fn error(kind: Kind, span: Span, message: impl Into<String>) -> Self {
        Self {
            code: kind.code,
            severity: Severity::Error,
            span,
            message: message.into(),
            help: None,
        }
    }

    /// Something doubtful.
    pub fn warning(kind: Kind, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(kind, span, message)
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says which of the known names may have been meant, if one is near.
    #[must_use]
    pub fn suggest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let near = known
            .into_iter()
            .map(|name| (distance(wrong, name), name))
            .filter(|(distance, name)| *distance <= name.len().max(wrong.len()) / 3 + 1);
        match near.min() {
            Some((_, name)) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// Everything that is wrong, with the files it is wrong in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The mistakes, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
    /// The files.
    pub sources: Vec<SourceFile>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.diagnostics, &self.sources))
    }
}

impl std::error::Error for Report {}

/// Columns of a tab.
const TAB: &str = "    ";

/// Shows each mistake at its place, underlined.
pub fn render(diagnostics: &[Diagnostic], sources: &[SourceFile]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        // Writing to a string does not fail.
        render_one(diagnostic, sources, &mut text).unwrap_or_default();
    }
    text
}

fn render_one(diagnostic: &Diagnostic, sources: &[SourceFile], text: &mut String) -> fmt::Result {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    writeln!(text, "{severity}[{}]: {}", diagnostic.code, diagnostic.message)?;
    if let Some(source) = sources.get(diagnostic.span.file) {
        let position = source.position(diagnostic.span.start);
        let line = source.line(diagnostic.span.start);
        let margin = " ".repeat(position.line.to_string().len());
        let before: String = line
            .chars()
            .take(position.column - 1)
            .collect::<String>()
            .replace('\t', TAB);
        let underlined = source
            .text
            .get(diagnostic.span.start..diagnostic.span.end)
            .and_then(|text| text.lines().next())
            .unwrap_or_default();
        let carets = width(&underlined.replace('\t', TAB)).max(1);
        writeln!(
            text,
            "{margin}--> {}:{}:{}",
            source.name, position.line, position.column
        )?;
        writeln!(text, "{margin} |")?;
        writeln!(text, "{} | {}", position.line, line.replace('\t', TAB))?;
        writeln!(text, "{margin} | {}{}", " ".repeat(width(&before)), "^".repeat(carets))?;
        if let Some(help) = &diagnostic.help {
            writeln!(text, "{margin} = help: {help}")?;
        }
    }
    writeln!(text)
}

/// Columns that a text takes on a terminal, near enough: East Asian wide characters and pictures take two.
fn width(text: &str) -> usize {
    let wide = |c: char| matches!(u32::from(c), 0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD);
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

/// Edits between two names (Levenshtein), letters of the other case counting as equal.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let above = *cell;
            left = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("Profle", "profile", 1),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(KINDS.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    #[test]
    fn the_place_is_underlined_whatever_stands_before_it() {
        let sources = [SourceFile::new("a.sync", "x\n\t\"日本\" bad\n")];
        let at = sources[0].text.find("bad").unwrap();
        let diagnostic = Diagnostic::error(
            SYNTAX,
            Span {
                file: 0,
                start: at,
                end: at + 3,
            },
            "no",
        )
        .help("write `good`");
        let expected = "error[C0101]: no\n --> a.sync:2:7\n  |\n2 |     \"日本\" bad\n  |            ^^^\n  = help: write `good`\n\n";
        assert_eq!(render(&[diagnostic], &sources), expected);
    }
}
