//! One signature: `name (param: Type, other?: Type, ...) : (output: Type)*`.

use concert_wire::routes::ValueType;

use crate::diagnostics::{CASE, Diagnostic, REPEATED_KEY};
use crate::lexer::lex_part;
use crate::names::{is_lower, is_upper};
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
        Self {
            params: Params::default(),
            rows: Rows::One,
        }
    }
}

/// How deeply `seq of` may be nested.
const MAX_DEPTH: usize = 16;

pub(super) fn parse(span: Span, source: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> Option<Signature> {
    let lexed = lex_part(span, source, diagnostics);
    let mut cursor = Cursor::new(&lexed.tokens, diagnostics);
    signature(&mut cursor, span).ok()
}

pub(super) fn is_failure(params: &Params) -> bool {
    matches!(params.params.as_slice(), [error] if &*error.name == "error" && error.kind == ValueType::String && !error.optional)
        && !params.open
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
    Ok(Signature {
        name,
        input,
        output,
        span,
    })
}

fn params(cursor: &mut Cursor<'_>) -> Result<Params, Failed> {
    cursor.symbol("(", "`(`")?;
    let mut found = Params::default();
    while !cursor.take_symbol(")") {
        if cursor.take_symbol("...") {
            found.open = true;
        } else {
            let name = cursor.word("the name of a parameter, or `...`")?;
            if !is_lower(&name.text) {
                cursor.report(Diagnostic::error(
                    CASE,
                    name.span,
                    format!(
                        "a parameter's name begins with a lower-case letter, `{}` does not",
                        name.text
                    ),
                ));
            }
            if found.get(&name.text).is_some() {
                cursor.report(Diagnostic::error(
                    REPEATED_KEY,
                    name.span,
                    format!("`{}` stands twice in this list", name.text),
                ));
            }
            let optional = cursor.take_symbol("?");
            cursor.symbol(":", "`:` and a type")?;
            let kind = value_type(cursor, 0)?;
            found.params.push(Param {
                name: name.text.as_str().into(),
                optional,
                kind,
            });
        }
        if !cursor.take_symbol(",") && !cursor.at_symbol(")") {
            cursor.unexpected("`,` or `)`");
            return Err(Failed);
        }
    }
    Ok(found)
}

fn value_type(cursor: &mut Cursor<'_>, depth: usize) -> Result<ValueType, Failed> {
    let word = cursor.word("a type")?;
    Ok(match word.text.as_str() {
        "String" => ValueType::String,
        "Number" => ValueType::Number,
        "Boolean" => ValueType::Boolean,
        "Date" => ValueType::Date,
        "Secret" => ValueType::Secret,
        "Any" => ValueType::Any,
        "seq" if depth < MAX_DEPTH => {
            if !cursor.take_word("of") {
                cursor.unexpected("`of` and a type");
                return Err(Failed);
            }
            ValueType::Seq(Box::new(value_type(cursor, depth + 1)?))
        }
        name if is_upper(name) => ValueType::Id(name.to_owned()),
        name => {
            const TYPES: [&str; 7] = ["String", "Number", "Boolean", "Date", "Secret", "Any", "seq"];
            cursor.report(Diagnostic::error(CASE, word.span, format!("`{name}` is no type")).suggest(name, TYPES));
            return Err(Failed);
        }
    })
}
