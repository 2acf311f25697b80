//! Parser of a signature: `name (param: Type, other?: Type, ...) : (output: Type)*`.

use concert_wire::routes::ValueType;

use super::types::value_type;
use crate::diagnostics::{Diagnostic, REPEATED_KEY};
use crate::lexer::lex_part;
use crate::parser::{Cursor, Failed};
use crate::source::{SourceFile, Span};
use crate::spec::{Param, Params, Rows};
use crate::syntax::Ident;

pub(super) struct Signature {
    pub(super) name: Ident,
    pub(super) input: Params,
    pub(super) output: Option<Outputs>,
    pub(super) span: Span,
}

pub(super) struct Outputs {
    pub(super) params: Params,
    pub(super) rows: Rows,
}

impl Default for Outputs {
    fn default() -> Self {
        Self { params: Params::default(), rows: Rows::One }
    }
}

/// Built-in types, except `seq of`. Any other name is a type of identifiers.
pub(super) const BUILT_IN: [&str; 6] = ["String", "Number", "Boolean", "Date", "Secret", "Any"];

pub(super) fn parse(
    span: Span,
    source: &SourceFile,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Signature> {
    let lexed = lex_part(span, source, diagnostics);
    let mut cursor = Cursor::new(&lexed.tokens, diagnostics);
    signature(&mut cursor, span).ok()
}

pub(super) fn is_failure(params: &Params) -> bool {
    let [error] = params.params.as_slice() else { return false };
    &*error.name == "error" && error.kind == ValueType::String && !error.optional && !params.open
}

fn signature(cursor: &mut Cursor<'_>, span: Span) -> Result<Signature, Failed> {
    let name = cursor.word("the name of an action or query")?;
    let input = params(cursor)?;
    let output = if cursor.take_symbol(":") {
        let params = params(cursor)?;
        let rows = if cursor.take_symbol("?") {
            Rows::AtMostOne
        } else if cursor.take_symbol("*") {
            Rows::Any
        } else {
            Rows::One
        };
        Some(Outputs { params, rows })
    } else {
        None
    };
    cursor.skip_lines();
    if !cursor.at_end() {
        cursor.unexpected("the end of the signature");
        return Err(Failed);
    }
    Ok(Signature { name, input, output, span })
}

fn params(cursor: &mut Cursor<'_>) -> Result<Params, Failed> {
    cursor.symbol("(", "`(`")?;
    let mut found = Params::default();
    while !cursor.take_symbol(")") {
        if found.open {
            cursor.unexpected("`)`, because `...` must be last");
            return Err(Failed);
        }
        if cursor.take_symbol("...") {
            found.open = true;
        } else {
            let place = cursor.span();
            let param = param(cursor)?;
            if found.get(&param.name).is_some() {
                let message = format!("duplicate key `{}`", param.name);
                cursor.report(Diagnostic::error(REPEATED_KEY, place, message));
            } else {
                found.params.push(param);
            }
        }
        if !cursor.take_symbol(",") && !cursor.at_symbol(")") {
            cursor.unexpected("`,` or `)`");
            return Err(Failed);
        }
    }
    Ok(found)
}

fn param(cursor: &mut Cursor<'_>) -> Result<Param, Failed> {
    let name = cursor.word("a parameter name, or `...`")?;
    let optional = cursor.take_symbol("?");
    cursor.symbol(":", "`:` and a type")?;
    let kind = value_type(cursor)?;
    Ok(Param { name: name.text.as_str().into(), optional, kind })
}
