//! Strings and numbers, as in JSON.

use concert_wire::value::MAX_SAFE_INTEGER;
use serde_json::Value;

use super::{Lexer, TokenKind};
use crate::diagnostics::{Diagnostic, NUMBER, STRING};

const ESCAPES: &str = concat!(
    r#"valid escapes are `\"` `\\` `\/` `\b` `\f` `\n` `\r` `\t` "#,
    r"and `\u0000` with four hexadecimal digits",
);

impl Lexer<'_> {
    /// Lexes a JSON string; reports each error in it separately.
    pub(super) fn string(&mut self, start: usize) {
        self.at += 1;
        let mut text = String::new();
        let mut is_broken = false;
        loop {
            let at = self.at;
            let Some(c) = self.next_char().filter(|c| *c != '\n') else {
                self.unclosed(start);
                is_broken = true;
                break;
            };
            self.at += c.len_utf8();
            match c {
                '"' => break,
                '\\' => match self.escape() {
                    Some(c) => text.push(c),
                    // At the end of the line, the error is the unclosed string.
                    None if self.rest().is_empty() || self.rest().starts_with(['\n', '\r']) => {}
                    None => {
                        is_broken = true;
                        let message = format!("invalid escape `{}` in a string", self.since(at));
                        self.diagnostics
                            .push(Diagnostic::error(STRING, self.span(at), message).help(ESCAPES));
                    }
                },
                '\r' if self.rest().starts_with('\n') => {}
                c if c < ' ' => {
                    is_broken = true;
                    let message =
                        format!("the character U+{:04X} must be escaped in a string", u32::from(c));
                    let help = format!(
                        "write `{}`",
                        Value::from(c.to_string()).to_string().trim_matches('"')
                    );
                    self.diagnostics
                        .push(Diagnostic::error(STRING, self.span(at), message).help(help));
                }
                c => text.push(c),
            }
        }
        self.push(TokenKind::Text(text), start, is_broken);
    }

    fn unclosed(&mut self, start: usize) {
        let mut span = self.span(start);
        span.end = start + self.since(start).trim_end().len();
        let diagnostic = Diagnostic::error(STRING, span, "unclosed string");
        self.diagnostics
            .push(diagnostic.help(r#"close the string with `"`; write a line break as `\n`"#));
    }

    /// Reads the escape after a backslash; `None` if it is invalid.
    fn escape(&mut self) -> Option<char> {
        let c = self.next_char().filter(|c| !matches!(c, '\n' | '\r'))?;
        self.at += c.len_utf8();
        match c {
            '"' | '\\' | '/' => Some(c),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => {
                let first = self.hexadecimal()?;
                if let Some(c) = char::from_u32(first) {
                    return Some(c);
                }
                // A character beyond U+FFFF is written as a surrogate pair.
                self.at += self.rest().strip_prefix("\\u").map(|_| 2)?;
                let second = self.hexadecimal()?;
                char::decode_utf16(
                    [first, second].map(|half| u16::try_from(half).unwrap_or_default()),
                )
                .next()?
                .ok()
            }
            _ => None,
        }
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits =
            self.rest().get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += digits.len();
        u32::from_str_radix(digits, 16).ok()
    }

    /// Lexes a JSON number; the parser reads its sign.
    pub(super) fn number(&mut self, start: usize) {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.take_while(is_word);
        let after_point = self.rest().strip_prefix('.').map(|rest| rest.chars().next());
        if after_point
            .is_some_and(|next| !next.is_some_and(|c| c.is_alphabetic() || c == '_' || c == '.'))
        {
            self.at += 1;
            self.take_while(is_word);
        }
        if self.since(start).ends_with(['e', 'E']) && self.rest().starts_with(['+', '-']) {
            self.at += 1;
            self.take_while(is_word);
        }
        let literal = self.since(start);
        let number = match serde_json::from_str::<Value>(literal) {
            Ok(Value::Number(number)) => Some(number),
            _ => None,
        };
        let is_exact = number.as_ref().is_some_and(|number| {
            !literal.bytes().all(|b| b.is_ascii_digit())
                || number.as_u64().is_some_and(|n| n <= MAX_SAFE_INTEGER)
        });
        let error = if number.is_none() {
            Some((
                format!("`{literal}` is not a JSON number"),
                "write numbers like `10`, `0.5` or `1e3`",
            ))
        } else if !is_exact {
            let message = format!("`{literal}` is beyond 2^53, where integers are not exact");
            Some((message, "use a string"))
        } else {
            None
        };
        let is_broken = error.is_some();
        if let Some((message, help)) = error {
            self.diagnostics.push(Diagnostic::error(NUMBER, self.span(start), message).help(help));
        }
        self.push(TokenKind::Number(number.unwrap_or_else(|| 0.into())), start, is_broken);
    }
}
