//! Parser of types in signatures.

use concert_wire::routes::{Field, ValueType};

use super::signature::BUILT_IN;
use crate::diagnostics::{BAD_SPEC, CASE, Diagnostic, NEAR_TYPE, REPEATED_KEY, distance};
use crate::lexer::TokenKind;
use crate::names::is_upper;
use crate::parser::{Cursor, Failed};
use crate::source::Span;
use crate::syntax::Ident;

/// Maximum nesting of types.
const MAX_DEPTH: usize = 16;

/// A member of a union.
enum Member {
    Null,
    Literal(String),
    Type(ValueType),
}

/// Parses the type of a parameter: a type, or types separated by `|`.
pub(super) fn value_type(cursor: &mut Cursor<'_>) -> Result<ValueType, Failed> {
    union(cursor, 0)
}

fn union(cursor: &mut Cursor<'_>, depth: usize) -> Result<ValueType, Failed> {
    let start = cursor.span();
    let mut members = vec![member(cursor, depth)?];
    while cursor.take_symbol("|") {
        members.push(member(cursor, depth)?);
    }
    let span = start.to(cursor.last_span());
    let (mut literals, mut types, mut nulls) = (Vec::new(), Vec::new(), 0);
    for member in members {
        match member {
            Member::Null => nulls += 1,
            Member::Literal(text) if literals.contains(&text) => {
                let message = format!("duplicate value \"{text}\" in a type");
                cursor.report(Diagnostic::error(REPEATED_KEY, span, message));
            }
            Member::Literal(text) => literals.push(text),
            Member::Type(kind) => types.push(kind),
        }
    }
    if !literals.is_empty() {
        types.push(ValueType::Enum(literals));
    }
    let kind = match (types.pop(), types.is_empty()) {
        (Some(kind), true) => kind,
        (Some(_), false) => {
            let message = "a union can only combine a type or string literals with `null`";
            return Err(malformed(cursor, span, message, "use `Any` for values of several types"));
        }
        (None, _) => {
            return Err(malformed(
                cursor,
                span,
                "the type `null` has no other value",
                "write `T | null`",
            ));
        }
    };
    match (nulls, &kind) {
        (0, _) => Ok(kind),
        (_, ValueType::Any | ValueType::Nullable(_)) => Ok(kind),
        _ if kind.is_secret() => {
            let help = "make the parameter optional, such as `name?: Secret`";
            Err(malformed(cursor, span, "a secret cannot be null", help))
        }
        _ => Ok(ValueType::Nullable(Box::new(kind))),
    }
}

fn malformed(cursor: &mut Cursor<'_>, span: Span, message: &str, help: &str) -> Failed {
    cursor.report(Diagnostic::error(BAD_SPEC, span, message).help(help));
    Failed
}

fn member(cursor: &mut Cursor<'_>, depth: usize) -> Result<Member, Failed> {
    let span = cursor.span();
    if depth > MAX_DEPTH {
        let message = format!("types can be nested at most {MAX_DEPTH} deep");
        cursor.report(Diagnostic::error(BAD_SPEC, span, message));
        return Err(Failed);
    }
    match cursor.kind() {
        TokenKind::Text(text) => {
            let text = text.clone();
            cursor.advance();
            Ok(Member::Literal(text))
        }
        TokenKind::Word(word) if word == "null" => {
            cursor.advance();
            Ok(Member::Null)
        }
        TokenKind::Symbol("(") => {
            cursor.advance();
            let kind = union(cursor, depth + 1)?;
            cursor.symbol(")", "`|` or `)`")?;
            Ok(Member::Type(kind))
        }
        TokenKind::Symbol("{") => record(cursor, depth).map(Member::Type),
        _ => {
            let word = cursor.word("a type")?;
            named(cursor, &word, depth).map(Member::Type)
        }
    }
}

fn named(cursor: &mut Cursor<'_>, word: &Ident, depth: usize) -> Result<ValueType, Failed> {
    Ok(match word.text.as_str() {
        "String" => match length(cursor)? {
            Some(max) => ValueType::BoundedString(max),
            None => ValueType::String,
        },
        "Number" => ValueType::Number,
        "Boolean" => ValueType::Boolean,
        "Date" => ValueType::Date,
        // Encryption covers whole values of parameters, not parts of them.
        "Secret" if depth > 0 => {
            let message = "a secret cannot be in a list or record";
            return Err(malformed(cursor, word.span, message, "declare a separate parameter"));
        }
        "Secret" => match length(cursor)? {
            Some(max) => ValueType::BoundedSecret(max),
            None => ValueType::Secret,
        },
        "Any" => ValueType::Any,
        list @ ("seq" | "set") => {
            if !cursor.take_word("of") {
                cursor.unexpected("`of` and a type");
                return Err(Failed);
            }
            let of = match member(cursor, depth + 1)? {
                Member::Type(kind) => Box::new(kind),
                Member::Literal(text) => Box::new(ValueType::Enum(vec![text])),
                Member::Null => {
                    let help = "write `seq of (T | null)`";
                    return Err(malformed(
                        cursor,
                        word.span,
                        "a list of `null` has no other elements",
                        help,
                    ));
                }
            };
            if list == "seq" { ValueType::Seq(of) } else { ValueType::Set(of) }
        }
        name if is_upper(name) => {
            warn_if_near(cursor, word);
            ValueType::Id(name.to_owned())
        }
        name => {
            if name.is_ascii() {
                let diagnostic =
                    Diagnostic::error(CASE, word.span, format!("unknown type `{name}`"));
                cursor.report(diagnostic.suggest(name, BUILT_IN.into_iter().chain(["seq", "set"])));
            }
            return Err(Failed);
        }
    })
}

/// Parses `(64)`, the maximum length of a string.
fn length(cursor: &mut Cursor<'_>) -> Result<Option<u32>, Failed> {
    if !cursor.take_symbol("(") {
        return Ok(None);
    }
    let max = match cursor.kind() {
        TokenKind::Number(number) => number.as_u64().and_then(|max| u32::try_from(max).ok()),
        _ => None,
    };
    let Some(max) = max.filter(|max| *max > 0) else {
        cursor.unexpected("a maximum length, such as `64`");
        return Err(Failed);
    };
    cursor.advance();
    cursor.symbol(")", "`)`")?;
    Ok(Some(max))
}

/// Parses `{name: Type, other?: Type}`.
fn record(cursor: &mut Cursor<'_>, depth: usize) -> Result<ValueType, Failed> {
    cursor.symbol("{", "`{`")?;
    let mut fields: Vec<Field> = Vec::new();
    while !cursor.take_symbol("}") {
        let name = cursor.word("a field name")?;
        let optional = cursor.take_symbol("?");
        cursor.symbol(":", "`:` and a type")?;
        let kind = union(cursor, depth + 1)?;
        if fields.iter().any(|field| field.name == name.text) {
            let message = format!("duplicate key `{}`", name.text);
            cursor.report(Diagnostic::error(REPEATED_KEY, name.span, message));
        } else {
            fields.push(Field { name: name.text, optional, kind });
        }
        if !cursor.take_symbol(",") && !cursor.at_symbol("}") {
            cursor.unexpected("`,` or `}`");
            return Err(Failed);
        }
    }
    Ok(ValueType::Record(fields))
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
