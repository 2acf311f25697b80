//! Diagnostics: errors and warnings about rules and specs, each with a code, a location and a hint.

mod render;

use std::cmp::Reverse;
use std::fmt;

pub use self::render::{Style, render, render_in};
use crate::source::{SourceFile, Span};

/// Severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The rules cannot be run.
    Error,
    /// The rules can be run, but may not do what their author intends.
    Warning,
}

/// A kind of diagnostic: code and title. A code never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Code, such as `C0101`.
    pub code: &'static str,
    /// Title of the documentation page.
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
    SYNTAX "C0101" "syntax error"
    CHARACTER "C0102" "invalid character"
    STRING "C0103" "invalid string literal"
    NUMBER "C0104" "invalid or out-of-range number"
    KEYWORD "C0105" "keyword used as a name"
    CASE "C0106" "wrong capitalization"
    REPEATED_KEY "C0107" "duplicate key"
    MISSING_PART "C0108" "missing section in a rule"
    TOO_DEEP "C0109" "expression nested too deeply"
    BAD_PATH "C0110" "path does not begin with `/`"
    UNKNOWN_PART "C0111" "unknown section"
    BAD_PATTERN "C0112" "invalid path pattern"
    BAD_HEADER "C0113" "invalid header declaration"
    UNKNOWN_CONCEPT "C0201" "unknown concept"
    UNKNOWN_ACTION "C0202" "unknown action"
    UNKNOWN_PARAMETER "C0203" "unknown parameter"
    MISSING_ARGUMENT "C0204" "missing argument"
    REPEATED_RULE "C0205" "duplicate rule name"
    NOT_AN_ACTION "C0206" "expected an action, found a query"
    UNKNOWN_OUTPUT "C0207" "unknown output"
    UNKNOWN_QUERY "C0208" "unknown query"
    AMBIGUOUS_PATHS "C0209" "ambiguous paths"
    UNBOUND "C0301" "unbound variable"
    REBOUND "C0302" "variable bound twice"
    NEVER_MATCHES "C0303" "pattern can never match"
    WRONG_TYPE "C0304" "wrong type"
    SECRET "C0305" "secret used in a non-secret position"
    UNUSED "C0306" "unused variable"
    CONFLICT "C0308" "conflicting types of a request key"
    COLLECT "C0309" "`collect` needs a variable bound by an earlier `where` step"
    MISPLACED_ELSE "C0310" "`else` not allowed here"
    UNKNOWN_FIELD "C0311" "unknown field"
    NULL "C0312" "null not handled"
    BAD_SPEC "C0401" "malformed spec"
    REPEATED_CONCEPT "C0402" "duplicate concept"
    REPEATED_SIGNATURE "C0403" "duplicate signature"
    DIFFERENT_INPUT "C0404" "signatures of an action differ in their input"
    BAD_FAILURE "C0405" "failure is not `(error: String)`"
    QUERY_NAME "C0406" "only query names begin with `_`"
    RESERVED "C0407" "reserved concept name"
    NEAR_TYPE "C0408" "type name similar to a built-in type"
    BUILT_IN "C0409" "spec differs from the built-in one"
    UNANSWERED "C0501" "request may not get a response"
    ANSWERED_TWICE "C0502" "request may get two responses"
    NEVER_FIRES "C0503" "rule never fires"
    TWINS "C0504" "duplicate rule"
    CYCLE "C0505" "rule cycle"
    AFTER_ANSWER "C0506" "call after the response"
    TOO_MANY_RUNS "C0507" "too many runs to check them all"
}

/// The title of a code.
pub fn title_of(code: &str) -> Option<&'static str> {
    KINDS.iter().find(|kind| kind.code == code).map(|kind| kind.title)
}

/// One error or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Code, such as `C0101`.
    pub code: &'static str,
    /// Severity.
    pub severity: Severity,
    /// Location.
    pub span: Span,
    /// The message: lower case, no full stop, user text in backticks.
    pub message: String,
    /// Short text after the underlined source text.
    pub label: Option<String>,
    /// A related location and its role, such as "the first rule".
    pub related: Option<(Span, String)>,
    /// Steps of the run that shows the problem.
    pub story: Vec<String>,
    /// How to fix it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Creates an error.
    pub fn error(kind: Kind, span: Span, message: impl Into<String>) -> Self {
        Self {
            code: kind.code,
            severity: Severity::Error,
            span,
            message: message.into(),
            label: None,
            related: None,
            story: Vec::new(),
            help: None,
        }
    }

    /// Creates a warning.
    pub fn warning(kind: Kind, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(kind, span, message) }
    }

    /// Adds a hint how to fix it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a label after the underlined text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds a related location: `the first rule` is shown as "the first rule is at
    /// file:line:column".
    #[must_use]
    pub fn related(mut self, span: Span, what: impl Into<String>) -> Self {
        self.related = Some((span, what.into()));
        self
    }

    /// Adds the steps of the run that shows the problem.
    #[must_use]
    pub fn story(mut self, story: Vec<String>) -> Self {
        self.story = story;
        self
    }

    /// Suggests the most similar known name, if one is similar enough.
    #[must_use]
    pub fn suggest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(wrong, known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// The known name that is most similar to `wrong`, if one is similar enough.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near =
        known.into_iter().map(|name| (distance(wrong, name), name)).filter(|(distance, name)| {
            *distance <= name.len().max(wrong.len()) / 3 + 1 && *distance < name.len()
        });
    // A longer common prefix wins among equal distances: `wher` means `where`.
    near.min_by_key(|(distance, name)| (*distance, Reverse(common_prefix(wrong, name)), *name))
        .map(|(_, name)| name)
}

fn common_prefix(a: &str, b: &str) -> usize {
    let pairs = a.chars().zip(b.chars());
    pairs.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}

/// Diagnostics with the source files that they refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The diagnostics, ordered by location.
    pub diagnostics: Vec<Diagnostic>,
    /// The source files.
    pub sources: Vec<SourceFile>,
}

impl Report {
    /// Formats each diagnostic with its source line.
    pub fn render(&self, style: Style) -> String {
        render_in(style, &self.diagnostics, &self.sources)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Report {}

/// Levenshtein distance of two names, ignoring case.
pub(crate) fn distance(a: &str, b: &str) -> usize {
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
    fn distance_counts_edits() {
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
    fn only_similar_names_are_suggested() {
        for (wrong, expected) in [
            ("Profle", Some("Profile")),
            ("sessioning", Some("Sessioning")),
            ("Library", None),
            ("x", None),
            ("Wher", Some("where")),
            ("wen", Some("when")),
        ] {
            let known = ["Profile", "Sessioning", "y", "when", "where"];
            assert_eq!(nearest(wrong, known), expected, "{wrong}");
        }
    }

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(KINDS.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}
