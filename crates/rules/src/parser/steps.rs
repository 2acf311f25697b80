//! The steps of `where`.

use super::{Parsed, Parser};
use crate::lexer::TokenKind;
use crate::names::{is_query, is_upper};
use crate::syntax::{Ident, QueryDef, StepDef, StepKind};

impl Parser<'_> {
    pub(super) fn step(&mut self) -> Parsed<StepDef> {
        let start = self.cursor.span();
        let kind = self.step_kind()?;
        let otherwise = if self.cursor.take_word("else") {
            Some(self.call()?)
        } else {
            None
        };
        if otherwise.is_some()
            && matches!(
                kind,
                StepKind::Optional(_)
                    | StepKind::Let(..)
                    | StepKind::Each(..)
                    | StepKind::CollectValues(..)
                    | StepKind::CollectRecords(..)
            )
        {
            return Err(self.misplaced("this step always leaves something, so it has no `else`"));
        }
        Ok(StepDef {
            kind,
            otherwise,
            span: start.to(self.cursor.last_span()),
        })
    }

    fn step_kind(&mut self) -> Parsed<StepKind> {
        let TokenKind::Word(word) = self.cursor.kind() else {
            return self.expression().map(StepKind::Filter);
        };
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
            let message = format!(
                "`where` asks queries, whose names begin with `_`; `{}` is an action",
                query.text
            );
            self.cursor.report(crate::diagnostics::Diagnostic::error(
                crate::diagnostics::QUERY_NAME,
                query.span,
                message,
            ));
        }
        let args = self.args()?;
        let output = if self.cursor.take_symbol(":") {
            self.pats()?
        } else {
            Vec::new()
        };
        Ok(QueryDef {
            concept,
            query,
            args,
            output,
        })
    }

    fn collect(&mut self) -> Parsed<StepKind> {
        let records: Option<Vec<(Ident, Ident)>> = if self.cursor.at_symbol("(") {
            Some(self.outs()?.into_iter().map(|out| (out.param, out.variable)).collect())
        } else {
            None
        };
        let single = if records.is_none() {
            Some(self.variable("a variable, or `(` and several")?)
        } else {
            None
        };
        if !self.cursor.take_word("as") {
            return Err(self.expected("`as` and a variable"));
        }
        let list = self.variable("a variable")?;
        Ok(match (records, single) {
            (Some(records), _) => StepKind::CollectRecords(records, list),
            (None, Some(single)) => StepKind::CollectValues(single, list),
            (None, None) => return Err(self.expected("a variable")),
        })
    }
}
