//! Parser of the first line: `concept Name [Generic, …]`.

use concert_wire::RESERVED_CONCEPT;

use super::lines::Line;
use super::signature::BUILT_IN;
use crate::diagnostics::{BAD_SPEC, Diagnostic, REPEATED_KEY, RESERVED};
use crate::lexer::lex_part;
use crate::names::is_upper;
use crate::parser::{Cursor, Failed};
use crate::source::SourceFile;
use crate::syntax::Ident;

/// Parses the line. Returns the name if it is valid.
pub(super) fn parse(
    line: &Line<'_>,
    source: &SourceFile,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Ident> {
    let lexed = lex_part(line.code_span(), source, diagnostics);
    let mut cursor = Cursor::new(&lexed.tokens, diagnostics);
    cursor.skip_lines();
    cursor.advance();
    let name = cursor.word("the name of the concept").ok()?;
    if name.text == RESERVED_CONCEPT {
        let message =
            format!("`{}` is reserved: it names the router's own records in the log", name.text);
        cursor.report(Diagnostic::error(RESERVED, name.span, message));
    }
    let is_name = is_upper(&name.text);
    if !is_name {
        cursor.wrong_case(&name, "a concept's name begins with an upper-case letter");
    }
    // Errors in the generic names are reported and do not stop the parser.
    generics(&mut cursor).unwrap_or(());
    is_name.then_some(name)
}

fn generics(cursor: &mut Cursor<'_>) -> Result<(), Failed> {
    if cursor.take_symbol("[") {
        let mut seen: Vec<Ident> = Vec::new();
        loop {
            let name = cursor.word("a generic name")?;
            if !is_upper(&name.text) {
                cursor.wrong_case(&name, "a generic name begins with an upper-case letter");
            }
            if BUILT_IN.contains(&name.text.as_str()) {
                let message = format!("the generic name `{}` is a built-in type", name.text);
                cursor.report(Diagnostic::error(BAD_SPEC, name.span, message));
            }
            if seen.iter().any(|other| other.text == name.text) {
                let message = format!("duplicate generic name `{}`", name.text);
                cursor.report(Diagnostic::error(REPEATED_KEY, name.span, message));
            }
            seen.push(name);
            if cursor.take_symbol("]") {
                break;
            }
            cursor.symbol(",", "`,` or `]`")?;
        }
    }
    cursor.skip_lines();
    if !cursor.at_end() {
        cursor.unexpected("the end of the line, or generic names as `[Name, Name]`");
        return Err(Failed);
    }
    Ok(())
}
