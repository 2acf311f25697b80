//! Parser of the steps of `where`.

use super::{Parsed, Parser};
use crate::diagnostics::{Diagnostic, QUERY_NAME, SYNTAX};
use crate::lexer::TokenKind;
use crate::names::{is_query, is_upper};
use crate::syntax::{Ident, QueryDef, StepDef, StepKind};

impl Parser<'_> {
    pub(super) fn step(&mut self) -> Parsed<StepDef> {
        let start = self.cursor.span();
        let kind = self.step_kind()?;
        let word = self.cursor.span();
        let otherwise = if self.cursor.take_word("else") { Some(self.call()?) } else { None };
        let always_leaves = !matches!(
            kind,
            StepKind::Query(_) | StepKind::Some(_) | StepKind::No(_) | StepKind::Filter(_)
        );
        if otherwise.is_some() && always_leaves {
            // The step itself is valid, so the parser continues.
            let message = "`else` is only allowed after a query, `some`, `no` or a condition";
            self.cursor.report(Diagnostic::error(SYNTAX, word, message));
        }
        Ok(StepDef { kind, otherwise, span: start.to(self.cursor.last_span()) })
    }

    fn step_kind(&mut self) -> Parsed<StepKind> {
        let TokenKind::Word(word) = self.cursor.kind() else {
            return self.expression().map(StepKind::Filter);
        };
        if let Some(meant) = self.misspelt_step() {
            let message = format!("unknown step `{word}`");
            let help = format!("did you mean `{meant}`?");
            let span = self.cursor.span();
            return Err(self.error(Diagnostic::error(SYNTAX, span, message).help(help)));
        }
        match word.as_str() {
            "optional" => {
                self.cursor.advance();
                self.query().map(StepKind::Optional)
            }
            "some" => {
                self.cursor.advance();
                self.query().map(StepKind::Some)
            }
            "no" => {
                self.cursor.advance();
                self.query().map(StepKind::No)
            }
            "let" => {
                self.cursor.advance();
                let variable = self.variable("a variable")?;
                self.cursor.symbol("=", "`=` and a value")?;
                Ok(StepKind::Let(variable, self.expression()?))
            }
            "each" => {
                self.cursor.advance();
                let variable = self.variable("a variable")?;
                if !self.cursor.take_word("in") {
                    return Err(self.expected("`in` and a list"));
                }
                Ok(StepKind::Each(variable, self.expression()?))
            }
            "collect" => {
                self.cursor.advance();
                self.collect()
            }
            word if is_upper(word) && *self.cursor.second() == TokenKind::Symbol(".") => {
                self.query().map(StepKind::Query)
            }
            _ => self.expression().map(StepKind::Filter),
        }
    }

    fn query(&mut self) -> Parsed<QueryDef> {
        let (concept, query) = self.target()?;
        if !is_query(&query.text) {
            let message = format!("expected a query, but `{}` is an action", query.text);
            self.cursor.report(
                Diagnostic::error(QUERY_NAME, query.span, message)
                    .help("query names begin with `_`; call actions in `then`"),
            );
        }
        let args = self.args()?;
        let output = if self.cursor.take_symbol(":") { self.pats()? } else { Vec::new() };
        Ok(QueryDef { concept, query, args, output })
    }

    fn collect(&mut self) -> Parsed<StepKind> {
        if !self.cursor.at_symbol("(") {
            let single = self.variable("a variable, or `(` and variables")?;
            return Ok(StepKind::CollectValues(single, self.collected()?));
        }
        let records = self.records()?;
        Ok(StepKind::CollectRecords(records, self.collected()?))
    }

    fn collected(&mut self) -> Parsed<Ident> {
        if !self.cursor.take_word("as") {
            return Err(self.expected("`as` and a variable"));
        }
        self.variable("a variable")
    }

    /// Parses the keys of the records and their variables; there is at least one.
    fn records(&mut self) -> Parsed<Vec<(Ident, Ident)>> {
        if *self.cursor.second() == TokenKind::Symbol(")") {
            return Err(self.misplaced("a record needs at least one key"));
        }
        Ok(self.outs()?.into_iter().map(|out| (out.param, out.variable)).collect())
    }
}
