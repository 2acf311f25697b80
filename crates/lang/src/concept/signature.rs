//! Parser of a signature: `name (param: Type, other?: Type, ...) : (output: Type)*`.

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

/// Built-in types, except `seq of`. Any other name is a type of identifiers.
pub(super) const BUILT_IN: [&str; 6] = ["String", "Number", "Boolean", "Date", "Secret", "Any"];

/// Maximum nesting of `seq of`.
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
        // Encryption covers whole values of parameters, not parts of them.
        "Secret" if depth > 0 => {
            let diagnostic = Diagnostic::error(
                BAD_SPEC,
                word.span,
                "a secret cannot be in a list; declare a separate parameter",
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
            let message = format!("lists can be nested at most {MAX_DEPTH} deep");
            cursor.report(Diagnostic::error(BAD_SPEC, word.span, message));
            return Err(Failed);
        }
        name if is_upper(name) => {
            warn_if_near(cursor, &word);
            ValueType::Id(name.to_owned())
        }
        name => {
            if name.is_ascii() {
                let diagnostic =
                    Diagnostic::error(CASE, word.span, format!("unknown type `{name}`"));
                cursor.report(diagnostic.suggest(name, BUILT_IN.into_iter().chain(["seq"])));
            }
            return Err(Failed);
        }
    })
}

/// A typo such as `Secrt` would be an identifier, which is stored in clear text. Short names are
/// similar to many others, so they are not checked.
fn warn_if_near(cursor: &mut Cursor<'_>, word: &Ident) {
    let near =
        BUILT_IN.into_iter().find(|known| known.len() >= 6 && distance(&word.text, known) <= 1);
    if let Some(near) = near {
        let message = format!(
            "`{}` is a type of identifiers, because no built-in type has this name",
            word.text
        );
        let help = format!("did you mean `{near}`?");
        cursor.report(Diagnostic::warning(NEAR_TYPE, word.span, message).help(help));
    }
}
