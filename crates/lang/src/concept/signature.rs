//! One signature: `name (param: Type, other?: Type, ...) : (output: Type)*`.

use concert_wire::routes::ValueType;

use crate::diagnostics::{BAD_SPEC, CASE, Diagnostic, NEAR_TYPE, REPEATED_KEY, distance};
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
        Self { params: Params::default(), rows: Rows::One }
    }
}

/// The types that are no identifiers, besides `seq of`.
pub(super) const BUILT_IN: [&str; 6] = ["String", "Number", "Boolean", "Date", "Secret", "Any"];

/// How deeply `seq of` may be nested.
const MAX_DEPTH: usize = 16;

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
    Ok(Signature { name, input, output, span })
}

fn params(cursor: &mut Cursor<'_>) -> Result<Params, Failed> {
    cursor.symbol("(", "`(`")?;
    let mut found = Params::default();
    while !cursor.take_symbol(")") {
        if found.open {
            cursor.unexpected("`)`: `...` is the last of a list");
            return Err(Failed);
        }
        if cursor.take_symbol("...") {
            found.open = true;
        } else {
            let place = cursor.span();
            let param = param(cursor)?;
            if found.get(&param.name).is_some() {
                let message = format!("`{}` stands twice in this list", param.name);
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
    let name = cursor.word("the name of a parameter, or `...`")?;
    if !is_lower(&name.text) {
        cursor.wrong_case(&name, "a parameter's name begins with a lower-case letter");
    }
    let optional = cursor.take_symbol("?");
    cursor.symbol(":", "`:` and a type")?;
    let kind = value_type(cursor, 0)?;
    Ok(Param { name: name.text.as_str().into(), optional, kind })
}

fn value_type(cursor: &mut Cursor<'_>, depth: usize) -> Result<ValueType, Failed> {
    let word = cursor.word("a type")?;
    Ok(match word.text.as_str() {
        "String" => ValueType::String,
        "Number" => ValueType::Number,
        "Boolean" => ValueType::Boolean,
        "Date" => ValueType::Date,
        // Sealing knows the values of parameters, not what is inside of them.
        "Secret" if depth > 0 => {
            let diagnostic = Diagnostic::error(
                BAD_SPEC,
                word.span,
                "a secret is a parameter of its own, never in a list",
            );
            cursor.report(diagnostic);
            return Err(Failed);
        }
        "Secret" => ValueType::Secret,
        "Any" => ValueType::Any,
        "seq" if depth < MAX_DEPTH => {
            if !cursor.take_word("of") {
                cursor.unexpected("`of` and a type");
                return Err(Failed);
            }
            ValueType::Seq(Box::new(value_type(cursor, depth + 1)?))
        }
        "seq" => {
            let message = format!("lists within lists end at {MAX_DEPTH}");
            cursor.report(Diagnostic::error(BAD_SPEC, word.span, message));
            return Err(Failed);
        }
        name if is_upper(name) => {
            warn_if_near(cursor, &word);
            ValueType::Id(name.to_owned())
        }
        name => {
            if name.is_ascii() {
                let diagnostic = Diagnostic::error(CASE, word.span, format!("`{name}` is no type"));
                cursor.report(diagnostic.suggest(name, BUILT_IN.into_iter().chain(["seq"])));
            }
            return Err(Failed);
        }
    })
}

/// `Secrt` would be an identifier, which rests in clear. Short names are too often near to mean
/// anything.
fn warn_if_near(cursor: &mut Cursor<'_>, word: &Ident) {
    let near =
        BUILT_IN.into_iter().find(|known| known.len() >= 6 && distance(&word.text, known) <= 1);
    if let Some(near) = near {
        let message = format!(
            "`{}` is taken for an identifier, since no built-in type has that name",
            word.text
        );
        let help = format!("did you mean `{near}`?");
        cursor.report(Diagnostic::warning(NEAR_TYPE, word.span, message).help(help));
    }
}
