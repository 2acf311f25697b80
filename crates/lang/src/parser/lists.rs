//! Parser of patterns and calls with their parameter lists.

use concert_wire::nested::SEPARATOR;
use concert_wire::{REQUEST, REQUESTING};

use super::{Parsed, Parser};
use crate::diagnostics::{Diagnostic, REPEATED_KEY, SYNTAX, TOO_DEEP};
use crate::lexer::TokenKind;
use crate::names::{is_lower, is_query, is_upper};
use crate::syntax::{
    ArgDef, CallDef, ExprDef, ExprKind, Ident, OutDef, PatDef, PatValue, PatternDef,
};

/// Maximum nesting of objects in a pattern, plus one.
const MAX_DEPTH: usize = 9;

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
        let is_request = concept.text == REQUESTING && action.text == REQUEST;
        let input = self.pats_of(is_request)?;
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
        self.pats_of(false)
    }

    /// Parses a list of keys; those of a request may look into objects.
    fn pats_of(&mut self, is_request: bool) -> Parsed<Vec<PatDef>> {
        let depth = if is_request { MAX_DEPTH } else { 0 };
        let keys = self.bracketed(|parser| parser.pat(depth))?;
        Ok(self.flattened(keys))
    }

    /// The keys of an object and of the objects in it, without duplicates.
    fn flattened(&mut self, keys: Vec<(Ident, Vec<PatDef>)>) -> Vec<PatDef> {
        self.no_repeats(keys.iter().map(|(key, _)| key));
        keys.into_iter().flat_map(|(_, pats)| pats).collect()
    }

    /// Parses one key: `name`, `name: value`, or `name: {…}` with up to `depth` objects in one
    /// another. The keys of an object become paths such as `user.email`.
    fn pat(&mut self, depth: usize) -> Parsed<(Ident, Vec<PatDef>)> {
        let param = self.param()?;
        let mark = self.cursor.span();
        let optional = self.cursor.take_symbol("?");
        let value = if !self.cursor.take_symbol(":") {
            PatValue::Variable(self.as_variable(&param)?)
        } else if self.cursor.at_symbol("{") {
            if optional {
                let message = "an object in a pattern has no `?`";
                let help = format!(
                    "write `?` after the keys that may be absent; `{}` may be absent if all of \
                     them may",
                    param.text
                );
                self.cursor.report(Diagnostic::error(SYNTAX, mark, message).help(help));
            }
            let inner = self.object_pats(depth)?;
            let inner = inner.into_iter().map(|mut pat| {
                pat.param.text = format!("{}{SEPARATOR}{}", param.text, pat.param.text);
                pat
            });
            let inner = inner.collect();
            return Ok((param, inner));
        } else {
            match self.literal()? {
                Some((value, span)) => PatValue::Literal(value, span),
                None => PatValue::Variable(self.variable("a variable or a literal")?),
            }
        };
        Ok((param.clone(), vec![PatDef { param, optional, value }]))
    }

    fn object_pats(&mut self, depth: usize) -> Parsed<Vec<PatDef>> {
        let start = self.cursor.span();
        if depth == 0 {
            let message = "only patterns of `Requesting.request` look into objects";
            let help = "bind the object, and read its fields: `article.title`";
            return Err(self.error(Diagnostic::error(SYNTAX, start, message).help(help)));
        }
        if depth == 1 {
            let message = format!("this pattern is nested more than {} deep", MAX_DEPTH - 1);
            return Err(self.error(Diagnostic::error(TOO_DEEP, start, message)));
        }
        self.cursor.symbol("{", "`{`")?;
        let keys = self.until("}", |parser| parser.pat(depth - 1))?;
        if keys.is_empty() {
            let span = start.to(self.cursor.last_span());
            let message = "an object in a pattern needs at least one key";
            self.cursor.report(Diagnostic::error(SYNTAX, span, message));
        }
        Ok(self.flattened(keys))
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
