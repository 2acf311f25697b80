//! What is wrong with rules and specs: every mistake, each with its code, its place, and what to
//! do.

mod render;

use std::cmp::Reverse;
use std::fmt;

pub use self::render::{Style, render, render_in};
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
    UNKNOWN_PART "C0111" "a word that begins no part of a rule"
    UNKNOWN_CONCEPT "C0201" "no spec declares this concept"
    UNKNOWN_ACTION "C0202" "the concept has no such action"
    UNKNOWN_PARAMETER "C0203" "the action has no such parameter"
    MISSING_ARGUMENT "C0204" "a required argument is missing"
    REPEATED_RULE "C0205" "two rules have one name"
    NOT_AN_ACTION "C0206" "a query stands where an action must stand"
    UNKNOWN_OUTPUT "C0207" "the action has no such output"
    UNKNOWN_QUERY "C0208" "the concept has no such query"
    UNBOUND "C0301" "a variable is used before it is bound"
    REBOUND "C0302" "a variable is bound twice"
    NEVER_MATCHES "C0303" "a pattern can never match"
    WRONG_TYPE "C0304" "a value has the wrong type"
    SECRET "C0305" "a secret goes where it must not"
    UNUSED "C0306" "a variable is never used"
    CONFLICT "C0308" "a key of a path is used as two types"
    COLLECT "C0309" "there is nothing to collect over"
    MISPLACED_ELSE "C0310" "an `else` of a step where it cannot be told how often it is called"
    BAD_SPEC "C0401" "a spec is malformed"
    REPEATED_CONCEPT "C0402" "two specs have one name"
    REPEATED_SIGNATURE "C0403" "an action has two outcomes of one kind"
    DIFFERENT_INPUT "C0404" "the signatures of an action differ in their input"
    BAD_FAILURE "C0405" "a failure is not `(error: String)`"
    QUERY_NAME "C0406" "a query's name does not begin with `_`, or an action's does"
    RESERVED "C0407" "the concept's name is reserved"
    NEAR_TYPE "C0408" "the name of an identifier is nearly that of a built-in type"
    BUILT_IN "C0409" "a built-in concept has another spec"
    UNANSWERED "C0501" "a request may stay unanswered"
    ANSWERED_TWICE "C0502" "a request may be answered twice"
    NEVER_FIRES "C0503" "a rule never fires"
    TWINS "C0504" "two rules do the same"
    CYCLE "C0505" "rules lead back to where they began"
    AFTER_ANSWER "C0506" "a call behind the answer"
    TOO_MANY_RUNS "C0507" "a path has too many runs to look at them all"
}

/// What a code is about.
pub fn title_of(code: &str) -> Option<&'static str> {
    KINDS.iter().find(|kind| kind.code == code).map(|kind| kind.title)
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
    /// A few words beside the underlined text.
    pub label: Option<String>,
    /// Another place that has to do with it, and why.
    pub related: Option<(Span, String)>,
    /// How it comes to that, sentence by sentence.
    pub story: Vec<String>,
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
            label: None,
            related: None,
            story: Vec::new(),
            help: None,
        }
    }

    /// Something doubtful.
    pub fn warning(kind: Kind, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(kind, span, message) }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says a few words beside the underlined text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Says where else to look: `the first` becomes "the first stands at file:line:column".
    #[must_use]
    pub fn related(mut self, span: Span, what: impl Into<String>) -> Self {
        self.related = Some((span, what.into()));
        self
    }

    /// Tells how it comes to that.
    #[must_use]
    pub fn story(mut self, story: Vec<String>) -> Self {
        self.story = story;
        self
    }

    /// Says which of the known names may have been meant, if one is near.
    #[must_use]
    pub fn suggest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(wrong, known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// The known name that a wrong one is probably meant to be.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near =
        known.into_iter().map(|name| (distance(wrong, name), name)).filter(|(distance, name)| {
            *distance <= name.len().max(wrong.len()) / 3 + 1 && *distance < name.len()
        });
    // Of names that are equally near, the one that begins alike for longer: `wher` is `where`.
    near.min_by_key(|(distance, name)| (*distance, Reverse(common_prefix(wrong, name)), *name))
        .map(|(_, name)| name)
}

fn common_prefix(a: &str, b: &str) -> usize {
    let pairs = a.chars().zip(b.chars());
    pairs.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}

/// Everything that is wrong, with the files it is wrong in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The mistakes, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
    /// The files.
    pub sources: Vec<SourceFile>,
}

impl Report {
    /// Shows each mistake at its place.
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

/// Edits between two names (Levenshtein), letters of the other case counting as equal.
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
    fn only_a_near_name_is_suggested() {
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
