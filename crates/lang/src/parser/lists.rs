//! Parser of patterns and calls with their parameter lists.

use super::{Parsed, Parser};
use crate::diagnostics::{Diagnostic, REPEATED_KEY};
use crate::lexer::TokenKind;
use crate::names::{is_lower, is_query, is_upper};
use crate::syntax::{
    ArgDef, CallDef, ExprDef, ExprKind, Ident, OutDef, PatDef, PatValue, PatternDef,
};

impl Parser<'_> {
    /// `Concept.name`.
    pub(super) fn target(&mut self) -> Parsed<(Ident, Ident)> {
        let is_word = matches!(self.cursor.kind(), TokenKind::Word(_));
        if !is_word || *self.cursor.second() != TokenKind::Symbol(".") {
            return Err(self.expected("an action, such as `Concept.action`"));
        }
        let concept = self.cursor.word("a concept")?;
        if !is_upper(&concept.text) {
            self.cursor.wrong_case(&concept, "a concept's name begins with an upper-case letter");
        }
        self.cursor.advance();
        let action = self.cursor.word("an action name")?;
        if !is_lower(&action.text) && !is_query(&action.text) {
            self.cursor.wrong_case(&action, "an action's name begins with a lower-case letter");
        }
        Ok((concept, action))
    }

    pub(super) fn pattern(&mut self) -> Parsed<PatternDef> {
        let start = self.cursor.span();
        let (concept, action) = self.target()?;
        let input = self.pats()?;
        let output = if self.cursor.take_symbol(":") { self.pats()? } else { Vec::new() };
        Ok(PatternDef { concept, action, input, output, span: start.to(self.cursor.last_span()) })
    }

    pub(super) fn call(&mut self) -> Parsed<CallDef> {
        let start = self.cursor.span();
        let (concept, action) = self.target()?;
        let args = self.args()?;
        let outs = if self.cursor.take_symbol(":") { self.outs()? } else { Vec::new() };
        Ok(CallDef { concept, action, args, outs, span: start.to(self.cursor.last_span()) })
    }

    pub(super) fn pats(&mut self) -> Parsed<Vec<PatDef>> {
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

    pub(super) fn args(&mut self) -> Parsed<Vec<ArgDef>> {
        let args = self.bracketed(|parser| {
            let param = parser.param()?;
            let omit_null = parser.cursor.take_symbol("?");
            let value = if parser.cursor.take_symbol(":") {
                parser.expression()?
            } else {
                let variable = parser.as_variable(&param)?;
                ExprDef { kind: ExprKind::Variable(variable.text), span: variable.span }
            };
            Ok(ArgDef { param, omit_null, value })
        })?;
        self.no_repeats(args.iter().map(|arg| &arg.param));
        Ok(args)
    }

    pub(super) fn outs(&mut self) -> Parsed<Vec<OutDef>> {
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

    pub(super) fn bracketed<T>(&mut self, item: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.cursor.symbol("(", "`(`")?;
        let mut items = Vec::new();
        while !self.cursor.take_symbol(")") {
            items.push(item(self)?);
            if !self.cursor.take_symbol(",") && !self.cursor.at_symbol(")") {
                return Err(self.expected("`,` or `)`"));
            }
        }
        Ok(items)
    }

    pub(super) fn param(&mut self) -> Parsed<Ident> {
        self.cursor.word("a parameter name")
    }

    pub(super) fn variable(&mut self, what: &str) -> Parsed<Ident> {
        let word = self.cursor.word(what)?;
        self.as_variable(&word)
    }

    pub(super) fn as_variable(&mut self, word: &Ident) -> Parsed<Ident> {
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
                    format!("duplicate key `{}`", ident.text),
                ));
            }
            seen.push(&ident.text);
        }
    }
}
