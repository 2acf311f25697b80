//! Parser of rules. After an error it continues at the next line, so that it reports all errors.

mod cursor;
mod expression;
mod heading;
mod lists;
mod steps;

pub(crate) use cursor::{Cursor, Failed};

use self::heading::{Heading, Lines};
use crate::diagnostics::{Diagnostic, MISSING_PART, SYNTAX, nearest};
use crate::lexer::{Comment, TokenKind, Tokens, lex};
use crate::names::{is_keyword, is_upper};
use crate::source::{FileId, SourceFile};
use crate::syntax::{ElseDef, HeaderDef, Ident, RuleFile, SyncDef};

/// Parses one file of rules.
pub fn parse(file: FileId, source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> RuleFile {
    let tokens = lex(file, source, diagnostics);
    parse_tokens(&tokens, diagnostics)
}

/// Parses the tokens of a file of rules.
pub(crate) fn parse_tokens(tokens: &Tokens, diagnostics: &mut Vec<Diagnostic>) -> RuleFile {
    let mut parser =
        Parser { cursor: Cursor::new(&tokens.tokens, diagnostics), comments: &tokens.comments };
    parser.file()
}

pub(crate) struct Parser<'a> {
    cursor: Cursor<'a>,
    comments: &'a [Comment],
}

type Parsed<T> = Result<T, Failed>;

impl Parser<'_> {
    fn file(&mut self) -> RuleFile {
        let mut file = RuleFile::default();
        loop {
            self.cursor.skip_lines();
            if self.cursor.at_end() {
                return file;
            }
            match self.heading(Lines::Parts) {
                Some(Heading::Sync) => {
                    file.syncs.extend(self.sync());
                    continue;
                }
                Some(Heading::Header) => {
                    file.headers.extend(self.header());
                    continue;
                }
                _ => self.cursor.unexpected("`sync` and a rule name"),
            }
            // Outside of a rule, only the exact keyword begins one.
            while !self.cursor.at_end() && !self.heading(Lines::Text).is_some_and(Heading::is_top) {
                self.cursor.skip_line();
                self.cursor.skip_lines();
            }
        }
    }

    /// Parses `header "Name: Scheme" as key`.
    fn header(&mut self) -> Option<HeaderDef> {
        self.cursor.advance();
        let (kind, span) = (self.cursor.kind(), self.cursor.span());
        self.cursor.advance();
        let key = match self.cursor.take_word("as") {
            true => self.cursor.word("the key that the header fills"),
            false => Err(self.expected("`as` and the key that the header fills")),
        };
        match key {
            Ok(_) => self.end_of_line(Lines::Parts),
            Err(Failed) => self.cursor.skip_line(),
        }
        let TokenKind::Text(text) = kind else { return None };
        Some(HeaderDef { text: text.clone(), span, key: key.ok()? })
    }

    fn sync(&mut self) -> Option<SyncDef> {
        let doc = self.doc_above(self.cursor.line());
        self.take_heading(Heading::Sync);
        let name = self.cursor.word("a rule name");
        match &name {
            Ok(name) if !is_upper(&name.text) => {
                self.cursor.wrong_case(name, "a rule's name begins with an upper-case letter")
            }
            Ok(_) => {}
            Err(Failed) => self.cursor.skip_line(),
        }
        self.end_of_line(Lines::Parts);
        let is_named = name.is_ok();
        let mut sync = SyncDef {
            name: name.unwrap_or(Ident { text: String::new(), span: self.cursor.last_span() }),
            doc,
            when: Vec::new(),
            steps: Vec::new(),
            then: Vec::new(),
            otherwise: None,
        };
        self.parts(&mut sync);
        is_named.then_some(sync)
    }

    fn parts(&mut self, sync: &mut SyncDef) {
        let mut seen: Vec<Heading> = Vec::new();
        loop {
            self.cursor.skip_lines();
            let Some(part) = self.heading(Lines::Parts) else {
                if self.cursor.at_end() {
                    break;
                }
                self.no_part();
                continue;
            };
            if part.is_top() {
                break;
            }
            self.check_order(&seen, part);
            let word = self.cursor.span();
            self.take_heading(part);
            let (is_empty, what) = match part {
                Heading::When => {
                    (self.lines(Lines::Parts, &mut sync.when, Self::pattern), "pattern")
                }
                Heading::Where => (self.lines(Lines::Steps, &mut sync.steps, Self::step), "step"),
                Heading::Then => (self.lines(Lines::Parts, &mut sync.then, Self::call), "call"),
                Heading::Else | Heading::Sync | Heading::Header => (self.otherwise(sync), "call"),
            };
            if is_empty {
                let message = format!("missing {what} after `{}`", part.word());
                self.cursor.report(Diagnostic::error(MISSING_PART, word, message));
            }
            seen.push(part);
        }
        for part in [Heading::When, Heading::Then] {
            if !seen.contains(&part) {
                let message =
                    format!("missing section `{1}` in rule `{0}`", sync.name.text, part.word());
                self.cursor.report(Diagnostic::error(MISSING_PART, sync.name.span, message));
            }
        }
    }

    /// Reports and skips text between the name of a rule and its sections.
    fn no_part(&mut self) {
        if !self.unknown_part() {
            self.cursor.unexpected("`when`");
        }
        while !self.cursor.at_end() && self.heading(Lines::Parts).is_none() {
            self.cursor.skip_line();
            self.cursor.skip_lines();
        }
    }

    /// Parses `else (outs)` and its calls; returns whether there are no calls.
    fn otherwise(&mut self, sync: &mut SyncDef) -> bool {
        let outs = if self.cursor.at_symbol("(") {
            self.outs()
        } else {
            let help = "write `else (error)` to bind the failure, and the calls on the next lines";
            self.cursor.unexpected_with("`(`", Some(help));
            Err(Failed)
        };
        match outs {
            Ok(_) => self.end_of_line(Lines::Parts),
            Err(Failed) => self.cursor.skip_line(),
        }
        let mut calls = Vec::new();
        let is_empty = self.lines(Lines::Parts, &mut calls, Self::call);
        let is_read = outs.is_ok();
        sync.otherwise = outs.ok().map(|outs| ElseDef { outs, calls });
        is_empty && is_read
    }

    /// The comment lines directly above a rule.
    fn doc_above(&self, line: usize) -> Vec<String> {
        let above = self.comments.partition_point(|comment| comment.line < line);
        let mut doc = Vec::new();
        let comments = self.comments.iter().take(above).rev();
        for (comment, line) in comments.zip((0..line).rev()) {
            if comment.line != line || !comment.is_alone {
                break;
            }
            doc.push(comment.text.clone());
        }
        doc.reverse();
        doc
    }

    /// Parses items, one per line, up to the next section; returns whether there are none.
    fn lines<T>(
        &mut self,
        lines: Lines,
        items: &mut Vec<T>,
        item: impl Fn(&mut Self) -> Parsed<T>,
    ) -> bool {
        let mut is_empty = true;
        loop {
            self.cursor.skip_lines();
            if self.cursor.at_end() || self.heading(lines).is_some() {
                return is_empty;
            }
            is_empty = false;
            if lines == Lines::Parts && self.unknown_part() {
                continue;
            }
            match item(self) {
                Ok(item) => {
                    items.push(item);
                    self.end_of_line(lines);
                }
                Err(Failed) => self.cursor.skip_line(),
            }
        }
    }

    fn end_of_line(&mut self, lines: Lines) {
        let is_next_line = self.cursor.at_word("else") && self.cursor.begins_line();
        if is_next_line || matches!(self.cursor.kind(), TokenKind::Line | TokenKind::End) {
            return;
        }
        let meant = match self.cursor.kind() {
            TokenKind::Word(word) if lines == Lines::Steps && !is_keyword(word) => {
                nearest(word, ["and", "or", "else"])
            }
            _ => None,
        };
        let help = meant.map(|word| format!("did you mean `{word}`?"));
        self.cursor.unexpected_with("the end of the line", help.as_deref());
        // Stop at a section that begins on this line.
        while !matches!(self.cursor.kind(), TokenKind::Line | TokenKind::End)
            && self.heading(Lines::Text).is_none()
        {
            self.cursor.advance();
        }
    }

    fn expected(&mut self, what: &str) -> Failed {
        self.cursor.unexpected(what);
        Failed
    }

    fn error(&mut self, diagnostic: Diagnostic) -> Failed {
        self.cursor.report(diagnostic);
        Failed
    }

    fn misplaced(&mut self, message: &str) -> Failed {
        let span = self.cursor.span();
        self.error(Diagnostic::error(SYNTAX, span, message))
    }
}
