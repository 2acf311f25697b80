//! Keywords that begin a rule and its sections, and misspelt ones.

use super::Parser;
use crate::diagnostics::{Diagnostic, SYNTAX, UNKNOWN_PART, nearest};
use crate::lexer::TokenKind;
use crate::names::{is_keyword, is_lower, is_upper};

/// Headings of a file. The order of the variants is the order of the sections in a rule, which
/// [`Parser::check_order`] uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heading {
    Header,
    Sync,
    When,
    Where,
    Then,
    Else,
}

/// Without `header`, which is a heading only before a string.
const ALL: [Heading; 5] =
    [Heading::Sync, Heading::When, Heading::Where, Heading::Then, Heading::Else];

impl Heading {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Sync => "sync",
            Self::When => "when",
            Self::Where => "where",
            Self::Then => "then",
            Self::Else => "else",
        }
    }

    /// Returns whether the heading is at the top level of a file, and not a section of a rule.
    pub(super) fn is_top(self) -> bool {
        matches!(self, Self::Header | Self::Sync)
    }

    fn of(word: &str) -> Option<Self> {
        ALL.into_iter().find(|heading| heading.word() == word)
    }
}

/// Kind of the lines around a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Sections, patterns and calls; apart from keywords, none begins with a lower-case name.
    Parts,
    /// Steps of `where`.
    Steps,
    /// Any text, as after an error: a misspelt keyword is not recognized.
    Text,
}

/// Keywords before a query.
const QUERY_STEPS: [&str; 3] = ["optional", "some", "no"];

impl Parser<'_> {
    /// The heading that begins here, even if misspelt. Where no line can begin with a lower-case
    /// name, a name similar to a heading counts as one.
    pub(super) fn heading(&self, lines: Lines) -> Option<Heading> {
        let TokenKind::Word(word) = self.cursor.kind() else {
            return None;
        };
        let exact = Heading::of(word);
        let next = self.cursor.second();
        if word == Heading::Header.word()
            && self.cursor.begins_line()
            && matches!(next, TokenKind::Text(_))
        {
            return Some(Heading::Header);
        }
        if exact.is_some() || !self.cursor.begins_line() || *next == TokenKind::Symbol(".") {
            return exact;
        }
        if is_upper(word) || lines == Lines::Parts {
            let other_case = Heading::of(&word.to_ascii_lowercase());
            if other_case.is_some() {
                return other_case;
            }
        }
        if !is_lower(word) || is_keyword(word) {
            return None;
        }
        match lines {
            Lines::Parts => {}
            Lines::Steps => return self.heading_among_steps(word),
            Lines::Text => return None,
        }
        let is_possible = |heading: &Heading| match next {
            TokenKind::Symbol("(") => *heading == Heading::Else,
            TokenKind::Word(_) => *heading != Heading::Else,
            TokenKind::Line | TokenKind::End => !matches!(heading, Heading::Sync | Heading::Else),
            _ => false,
        };
        let possible = ALL.into_iter().filter(is_possible).map(Heading::word);
        nearest(word, possible).and_then(Heading::of)
    }

    /// The misspelt heading among steps. A step may begin with a lower-case name, so a word is a
    /// heading only if what follows it cannot continue a step. The keywords of steps are among the
    /// candidates, so that a misspelt keyword is not taken for a heading.
    fn heading_among_steps(&self, word: &str) -> Option<Heading> {
        let parts = [Heading::Then, Heading::When, Heading::Where].map(Heading::word);
        let near = match self.cursor.second() {
            TokenKind::Word(next)
                if is_upper(next) && *self.cursor.nth(2) == TokenKind::Symbol(".") =>
            {
                nearest(word, parts.into_iter().chain(QUERY_STEPS))
            }
            TokenKind::Word(next) if is_upper(next) => nearest(word, [Heading::Sync.word()]),
            TokenKind::Symbol("(") => nearest(word, [Heading::Else.word(), "not"]),
            TokenKind::Line if self.action_follows() => nearest(word, parts),
            _ => None,
        };
        near.and_then(Heading::of)
    }

    /// Returns whether the next line begins with an action, which no step does.
    fn action_follows(&self) -> bool {
        let mut ahead = (1..).map(|distance| self.cursor.nth(distance));
        let concept = ahead.find(|kind| **kind != TokenKind::Line);
        let (dot, name) = (ahead.next(), ahead.next());
        matches!(concept, Some(TokenKind::Word(concept)) if is_upper(concept))
            && dot == Some(&TokenKind::Symbol("."))
            && matches!(name, Some(TokenKind::Word(name)) if is_lower(name))
    }

    /// The intended keyword, if the step begins with a misspelt one.
    pub(super) fn misspelt_step(&self) -> Option<&'static str> {
        let TokenKind::Word(word) = self.cursor.kind() else {
            return None;
        };
        if !is_lower(word) || is_keyword(word) {
            return None;
        }
        match self.cursor.second() {
            TokenKind::Word(next) if is_upper(next) => nearest(word, QUERY_STEPS),
            TokenKind::Word(next) if !is_keyword(next) => {
                nearest(word, ["let", "each", "collect", "not"])
            }
            TokenKind::Symbol("(") => nearest(word, ["collect", "not"]),
            _ => None,
        }
    }

    /// Takes a heading, and reports it if it is misspelt.
    pub(super) fn take_heading(&mut self, heading: Heading) {
        let span = self.cursor.span();
        if let TokenKind::Word(word) = self.cursor.kind()
            && word != heading.word()
        {
            let message = format!("unknown section `{word}`");
            let help = if word.eq_ignore_ascii_case(heading.word()) {
                format!("keywords are written in lower case: `{}`", heading.word())
            } else {
                format!("did you mean `{}`?", heading.word())
            };
            self.cursor.report(Diagnostic::error(UNKNOWN_PART, span, message).help(help));
        }
        self.cursor.advance();
    }

    /// Reports a lower-case word that is alone on its line, which is never valid in `when` and
    /// `then`.
    pub(super) fn unknown_part(&mut self) -> bool {
        let TokenKind::Word(word) = self.cursor.kind() else {
            return false;
        };
        let is_alone = self.cursor.begins_line()
            && matches!(self.cursor.second(), TokenKind::Line | TokenKind::End);
        if !is_alone || !is_lower(word) {
            return false;
        }
        let message = format!("unknown section `{word}`");
        let help = "the sections of a rule are `when`, `where`, `then` and `else`";
        let span = self.cursor.span();
        self.cursor.report(Diagnostic::error(UNKNOWN_PART, span, message).help(help));
        self.cursor.skip_line();
        true
    }

    /// Checks that each section appears once and in order.
    pub(super) fn check_order(&mut self, seen: &[Heading], part: Heading) {
        let last = seen.iter().max();
        let message = match last {
            _ if seen.contains(&part) => format!("duplicate section `{}`", part.word()),
            Some(last) if *last > part => {
                format!("`{}` must be before `{}`", part.word(), last.word())
            }
            _ if part == Heading::Else && last != Some(&Heading::Then) => {
                "`else (…)` must follow the calls of `then`".to_owned()
            }
            _ => return,
        };
        let span = self.cursor.span();
        self.cursor.report(Diagnostic::error(SYNTAX, span, message));
    }
}
