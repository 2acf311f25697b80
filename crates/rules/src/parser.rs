//! From tokens to the syntax tree of rules. After a mistake it goes on at the next line, so that all mistakes are found at once.

mod cursor;
mod expression;
mod steps;

pub(crate) use cursor::{Cursor, Failed};

use crate::diagnostics::{CASE, Diagnostic, MISSING_PART, REPEATED_KEY, SYNTAX};
use crate::lexer::{Comment, TokenKind, lex};
use crate::names::{is_lower, is_query, is_upper};
use crate::source::{FileId, SourceFile};
use crate::syntax::{
    ArgDef, CallDef, ExprDef, ExprKind, Ident, OtherwiseDef, OutDef, PatDef, PatValue, PatternDef, SyncDef,
};

/// Reads one file of rules.
pub fn parse(file: FileId, source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> Vec<SyncDef> {
    let lexed = lex(file, source, diagnostics);
    let mut parser = Parser {
        cursor: Cursor::new(&lexed.tokens, diagnostics),
        source,
        comments: &lexed.comments,
    };
    parser.file()
}

pub(crate) struct Parser<'a> {
    cursor: Cursor<'a>,
    source: &'a SourceFile,
    comments: &'a [Comment],
}

type Parsed<T> = Result<T, Failed>;

impl Parser<'_> {
    fn file(&mut self) -> Vec<SyncDef> {
        let mut syncs = Vec::new();
        loop {
            self.cursor.skip_lines();
            if self.cursor.at_end() {
                return syncs;
            }
            if self.cursor.at_word("sync") {
                syncs.extend(self.sync());
            } else {
                self.cursor.unexpected("`sync` and the name of a rule");
                self.cursor.skip_to_word("sync");
            }
        }
    }

    fn sync(&mut self) -> Option<SyncDef> {
        let start = self.cursor.span();
        self.cursor.advance();
        let name = match self.cursor.word("the name of the rule") {
            Ok(name) => name,
            Err(Failed) => {
                self.cursor.skip_line();
                Ident {
                    text: String::new(),
                    span: start,
                }
            }
        };
        let doc = self.doc_above(start.start);
        self.end_of_line();
        let mut sync = SyncDef {
            name,
            doc,
            when: Vec::new(),
            steps: Vec::new(),
            then: Vec::new(),
            otherwise: None,
        };
        let mut seen_then = false;
        loop {
            self.cursor.skip_lines();
            if self.cursor.take_word("when") {
                sync.when.extend(self.lines(Self::pattern));
            } else if self.cursor.take_word("where") {
                sync.steps.extend(self.lines(Self::step));
            } else if self.cursor.take_word("then") {
                seen_then = true;
                sync.then.extend(self.lines(Self::call));
            } else if self.cursor.at_word("else") && seen_then && sync.otherwise.is_none() {
                self.cursor.advance();
                sync.otherwise = self.otherwise();
            } else {
                break;
            }
        }
        if !self.cursor.at_end() && !self.cursor.at_word("sync") {
            self.cursor
                .unexpected("`when`, `where`, `then`, `else` or the next `sync`");
            self.cursor.skip_to_word("sync");
        }
        if !sync.name.text.is_empty() {
            self.complete(&sync);
        }
        (!sync.name.text.is_empty()).then_some(sync)
    }

    fn complete(&mut self, sync: &SyncDef) {
        if !is_upper(&sync.name.text) {
            let message = format!(
                "the name of a rule begins with an upper-case letter, `{}` does not",
                sync.name.text
            );
            self.cursor.report(Diagnostic::error(CASE, sync.name.span, message));
        }
        for (part, is_missing) in [("when", sync.when.is_empty()), ("then", sync.then.is_empty())] {
            if is_missing && self.cursor.is_clean_since(sync.name.span) {
                let what = if part == "when" {
                    "no pattern after `when`"
                } else {
                    "no call after `then`"
                };
                self.cursor.report(Diagnostic::error(
                    MISSING_PART,
                    sync.name.span,
                    format!("the rule `{}` has {what}", sync.name.text),
                ));
            }
        }
    }

    /// The comment lines right above a rule belong to it.
    fn doc_above(&self, start: usize) -> Vec<String> {
        let mut line = self.source.position(start).line;
        let mut doc = Vec::new();
        for comment in self.comments.iter().rev().filter(|comment| comment.span.end <= start) {
            let at = self.source.position(comment.span.start).line;
            let alone = self.source.line(comment.span.start).trim_start().starts_with("//");
            if at + 1 != line || !alone {
                break;
            }
            line = at;
            doc.insert(0, comment.text.clone());
        }
        doc
    }

    /// Items, one a line, up to the next part of the rule.
    fn lines<T>(&mut self, item: impl Fn(&mut Self) -> Parsed<T>) -> Vec<T> {
        let mut items = Vec::new();
        loop {
            self.cursor.skip_lines();
            let part = ["sync", "when", "where", "then", "else"]
                .into_iter()
                .any(|word| self.cursor.at_word(word));
            if part || self.cursor.at_end() {
                return items;
            }
            match item(self) {
                Ok(item) => {
                    items.push(item);
                    self.end_of_line();
                }
                Err(Failed) => self.cursor.skip_line(),
            }
        }
    }

    fn end_of_line(&mut self) {
        let ends = matches!(self.cursor.kind(), TokenKind::Line | TokenKind::End) || self.cursor.at_word("else");
        let part = ["when", "where", "then"]
            .into_iter()
            .any(|word| self.cursor.at_word(word));
        if !ends && !part {
            self.cursor.unexpected("the end of the line");
            self.cursor.skip_line();
        }
    }

    fn otherwise(&mut self) -> Option<OtherwiseDef> {
        let outs = self.outs();
        if outs.is_err() {
            self.cursor.skip_line();
        }
        let calls = self.lines(Self::call);
        outs.ok().map(|outs| OtherwiseDef { outs, calls })
    }

    /// `Concept.name`.
    fn target(&mut self) -> Parsed<(Ident, Ident)> {
        let concept = self.cursor.word("a concept")?;
        if !is_upper(&concept.text) {
            let message = format!(
                "a concept's name begins with an upper-case letter, `{}` does not",
                concept.text
            );
            self.cursor.report(Diagnostic::error(CASE, concept.span, message));
        }
        self.cursor.symbol(".", "`.` and the name of an action")?;
        let action = self.cursor.word("the name of an action")?;
        if !is_lower(&action.text) && !is_query(&action.text) {
            let message = format!(
                "an action's name begins with a lower-case letter, `{}` does not",
                action.text
            );
            self.cursor.report(Diagnostic::error(CASE, action.span, message));
        }
        Ok((concept, action))
    }

    fn pattern(&mut self) -> Parsed<PatternDef> {
        let start = self.cursor.span();
        let (concept, action) = self.target()?;
        let input = self.pats()?;
        let output = if self.cursor.take_symbol(":") {
            self.pats()?
        } else {
            Vec::new()
        };
        Ok(PatternDef {
            concept,
            action,
            input,
            output,
            span: start.to(self.cursor.last_span()),
        })
    }

    fn call(&mut self) -> Parsed<CallDef> {
        let start = self.cursor.span();
        let (concept, action) = self.target()?;
        let args = self.args()?;
        let outs = if self.cursor.take_symbol(":") {
            self.outs()?
        } else {
            Vec::new()
        };
        Ok(CallDef {
            concept,
            action,
            args,
            outs,
            span: start.to(self.cursor.last_span()),
        })
    }

    fn pats(&mut self) -> Parsed<Vec<PatDef>> {
        let pats = self.bracketed(|parser| {
            let param = parser.param()?;
            let optional = parser.cursor.take_symbol("?");
            let value = if parser.cursor.take_symbol(":") {
                match parser.literal()? {
                    Some((value, span)) => PatValue::Literal(value, span),
                    None => PatValue::Variable(parser.variable("a variable or a literal")?),
                }
            } else {
                PatValue::Variable(parser.as_variable(&param)?)
            };
            Ok(PatDef { param, optional, value })
        })?;
        self.no_repeats(pats.iter().map(|pat| &pat.param));
        Ok(pats)
    }

    fn args(&mut self) -> Parsed<Vec<ArgDef>> {
        let args = self.bracketed(|parser| {
            let param = parser.param()?;
            let omit_null = parser.cursor.take_symbol("?");
            let value = if parser.cursor.take_symbol(":") {
                parser.expression()?
            } else {
                let variable = parser.as_variable(&param)?;
                ExprDef {
                    kind: ExprKind::Variable(variable.text),
                    span: variable.span,
                }
            };
            Ok(ArgDef {
                param,
                omit_null,
                value,
            })
        })?;
        self.no_repeats(args.iter().map(|arg| &arg.param));
        Ok(args)
    }

    fn outs(&mut self) -> Parsed<Vec<OutDef>> {
        let outs = self.bracketed(|parser| {
            let param = parser.param()?;
            let variable = if parser.cursor.take_symbol(":") {
                parser.variable("a variable")?
            } else {
                parser.as_variable(&param)?
            };
            Ok(OutDef { param, variable })
        })?;
        self.no_repeats(outs.iter().map(|out| &out.param));
        Ok(outs)
    }

    fn bracketed<T>(&mut self, item: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.cursor.symbol("(", "`(`")?;
        let mut items = Vec::new();
        while !self.cursor.take_symbol(")") {
            items.push(item(self)?);
            if !self.cursor.take_symbol(",") && !self.cursor.at_symbol(")") {
                self.cursor.unexpected("`,` or `)`");
                return Err(Failed);
            }
        }
        Ok(items)
    }

    fn param(&mut self) -> Parsed<Ident> {
        let param = self.cursor.word("the name of a parameter")?;
        if !is_lower(&param.text) {
            let message = format!(
                "a parameter's name begins with a lower-case letter, `{}` does not",
                param.text
            );
            self.cursor.report(Diagnostic::error(CASE, param.span, message));
        }
        Ok(param)
    }

    fn variable(&mut self, what: &str) -> Parsed<Ident> {
        let word = self.cursor.word(what)?;
        self.as_variable(&word)
    }

    fn as_variable(&mut self, word: &Ident) -> Parsed<Ident> {
        self.cursor.check_variable(word)?;
        Ok(word.clone())
    }

    fn no_repeats<'b>(&mut self, idents: impl Iterator<Item = &'b Ident>) {
        let mut seen: Vec<&str> = Vec::new();
        for ident in idents {
            if seen.contains(&ident.text.as_str()) {
                self.cursor.report(Diagnostic::error(
                    REPEATED_KEY,
                    ident.span,
                    format!("`{}` stands twice in this list", ident.text),
                ));
            }
            seen.push(&ident.text);
        }
    }

    /// What stands where a query with a negation or a call was half written.
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
