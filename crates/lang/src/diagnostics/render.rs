//! Diagnostics as text, each with its underlined source line.

use std::fmt::{self, Write as _};

use super::{Diagnostic, Severity};
use crate::source::SourceFile;

/// Style of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// With ANSI colours.
    Ansi,
}

/// Width of a tab.
const TAB: &str = "    ";
/// Replaces characters that would move the cursor of a terminal.
const REPLACEMENT: char = '\u{fffd}';

/// Formats each diagnostic with its underlined source line, followed by a blank line.
pub fn render(diagnostics: &[Diagnostic], sources: &[SourceFile]) -> String {
    render_in(Style::Plain, diagnostics, sources)
}

/// Like [`render`], in the given style.
pub fn render_in(style: Style, diagnostics: &[Diagnostic], sources: &[SourceFile]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        // Writing to a string does not fail.
        one(diagnostic, sources, style, &mut text).unwrap_or_default();
    }
    text
}

fn one(
    diagnostic: &Diagnostic,
    sources: &[SourceFile],
    style: Style,
    text: &mut String,
) -> fmt::Result {
    let (severity, colour) = match diagnostic.severity {
        Severity::Error => ("error", "31"),
        Severity::Warning => ("warning", "33"),
    };
    let paint = |code: &str, text: &str| match style {
        Style::Plain => text.to_owned(),
        Style::Ansi => format!("\x1b[1;{code}m{text}\x1b[0m"),
    };
    let severity = paint(colour, &format!("{severity}[{}]", diagnostic.code));
    writeln!(text, "{severity}: {}", visible(&diagnostic.message))?;
    let mut margin = String::new();
    if let Some(source) = sources.get(diagnostic.span.file) {
        let position = source.position(diagnostic.span.start);
        margin = " ".repeat(position.line.to_string().len());
        let line = source.line(diagnostic.span.start);
        let before: String = line.chars().take(position.column - 1).collect();
        let underlined = source
            .text
            .get(diagnostic.span.start..diagnostic.span.end)
            .and_then(|text| text.lines().next())
            .unwrap_or_default();
        let carets = "^".repeat(width(&visible(underlined)).max(1));
        let label = diagnostic.label.as_deref().map(|label| format!(" {label}"));
        let arrow = paint("34", "-->");
        let bar = paint("34", "|");
        writeln!(text, "{margin}{arrow} {}:{}:{}", source.name, position.line, position.column)?;
        writeln!(text, "{margin} {bar}")?;
        let number = paint("34", &position.line.to_string());
        writeln!(text, "{number} {bar} {}", visible(line))?;
        let indent = " ".repeat(width(&visible(&before)));
        let carets = paint(colour, &format!("{carets}{}", label.unwrap_or_default()));
        writeln!(text, "{margin} {bar} {indent}{carets}")?;
    }
    for (number, sentence) in diagnostic.story.iter().enumerate() {
        let begin = if number == 0 { "= run:" } else { "      " };
        writeln!(text, "{margin} {begin} {}. {}", number + 1, visible(sentence))?;
    }
    if let Some((span, what)) = &diagnostic.related
        && let Some(source) = sources.get(span.file)
    {
        let position = source.position(span.start);
        writeln!(
            text,
            "{margin} = note: {what} is at {}:{}:{}",
            source.name, position.line, position.column
        )?;
    }
    if let Some(help) = &diagnostic.help {
        writeln!(text, "{margin} = help: {}", visible(help))?;
    }
    writeln!(text)
}

/// Replaces control characters, so that a file can neither move the cursor of a terminal nor
/// reverse the reading direction.
fn visible(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '\t' => shown.push_str(TAB),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.push(REPLACEMENT),
            c if c.is_control() => shown.push(REPLACEMENT),
            c => shown.push(c),
        }
    }
    shown
}

/// Approximate columns of a text on a terminal: East Asian wide characters and pictographs take
/// two, combining marks take none.
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x0300..=0x036F | 0x200B..=0x200F | 0x20D0..=0x20FF | 0xFE00..=0xFE0F => 0,
            0x1100..=0x115F
            | 0x2E80..=0xA4CF
            | 0xAC00..=0xD7A3
            | 0xF900..=0xFAFF
            | 0xFE30..=0xFE6F
            | 0xFF00..=0xFF60
            | 0x1F300..=0x1FAFF
            | 0x20000..=0x3FFFD => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::SYNTAX;
    use crate::source::Span;

    fn check(text: &str, underlined: &str, expected: &str) {
        let start = text.find(underlined).unwrap();
        let span = Span { file: 0, start, end: start + underlined.len() };
        let diagnostic = Diagnostic::error(SYNTAX, span, "no").help("write `good`");
        let sources = [SourceFile::new("a.sync", text)];
        assert_eq!(render(&[diagnostic], &sources), expected);
    }

    #[test]
    fn underline_is_aligned_after_wide_and_combining_characters() {
        check(
            "x\n\t\"日本\" bad\n",
            "bad",
            "error[C0101]: no\n --> a.sync:2:7\n  |\n2 |     \"日本\" bad\n  |            ^^^\n  = help: write `good`\n\n",
        );
        check(
            "\u{feff}e\u{301} bad",
            "bad",
            "error[C0101]: no\n --> a.sync:1:4\n  |\n1 | e\u{301} bad\n  |   ^^^\n  = help: write `good`\n\n",
        );
    }

    #[test]
    fn control_characters_are_not_written_to_the_terminal() {
        check(
            "\x1b[2J\u{202e} bad\r\n",
            "bad",
            "error[C0101]: no\n --> a.sync:1:7\n  |\n1 | \u{fffd}[2J\u{fffd} bad\n  |       ^^^\n  = help: write `good`\n\n",
        );
    }

    #[test]
    fn labels_notes_and_colours_are_shown() {
        let span = |start, end| Span { file: 0, start, end };
        let diagnostic = Diagnostic::warning(SYNTAX, span(2, 3), "no")
            .label("here")
            .related(span(0, 1), "the first one");
        let sources = [SourceFile::new("a.sync", "a b")];
        assert_eq!(
            render(std::slice::from_ref(&diagnostic), &sources),
            "warning[C0101]: no\n --> a.sync:1:3\n  |\n1 | a b\n  |   ^ here\n  = note: the first one is at a.sync:1:1\n\n"
        );
        assert!(
            render_in(Style::Ansi, &[diagnostic], &sources).contains("\x1b[1;33m^ here\x1b[0m")
        );
    }
}
