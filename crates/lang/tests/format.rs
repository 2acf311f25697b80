//! Tests of the formatter: it keeps meaning and comments, and is idempotent. `CONCERT_BLESS=1`
//! rewrites the expected file.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files fails")]

#[path = "files/project.rs"]
mod project;

use concert_lang::diagnostics::Diagnostic;
use concert_lang::lexer::{Token, TokenKind, lex};
use concert_lang::parser::parse;
use concert_lang::source::SourceFile;
use concert_lang::{KEYWORDS, format};
use proptest::prelude::*;

use crate::project::{files, root};

/// Long lines, nested brackets, and comments in every possible position.
const HARD: &str = include_str!("format/hard.sync");

fn source(text: &str) -> SourceFile {
    SourceFile::new("a.sync", text)
}

/// The syntax tree without locations.
fn tree(text: &str) -> Result<String, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let tree = format!("{:?}", parse(0, &source(text), &mut diagnostics));
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let mut pieces = tree.split("Span {");
    let mut blind = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        blind.push_str(piece.split_once('}').map_or(piece, |(_, rest)| rest));
    }
    Ok(blind)
}

fn comments(text: &str) -> Vec<String> {
    let lexed = lex(0, &source(text), &mut Vec::new());
    lexed.comments.into_iter().map(|comment| comment.text).collect()
}

/// Checks the invariants of formatting a correct file; returns the formatted text.
fn check(text: &str) -> String {
    let formatted = format(&source(text)).map_err(|report| report.to_string()).unwrap();
    let context = || format!("from:\n{text}\nto:\n{formatted}");
    assert_eq!(tree(text), tree(&formatted), "{}", context());
    assert_eq!(comments(text), comments(&formatted), "{}", context());
    let again = format(&source(&formatted)).unwrap();
    assert_eq!(again, formatted, "{}", context());
    let is_clean = |line: &str| !line.ends_with([' ', '\t', '\r']) && !line.starts_with('\t');
    assert!(formatted.lines().all(is_clean), "{}", context());
    assert!(!formatted.contains("\n\n\n"), "{}", context());
    assert!(
        formatted.is_empty() || (formatted.ends_with('\n') && !formatted.ends_with("\n\n")),
        "{}",
        context()
    );
    formatted
}

/// Texts of the rule files in a directory.
fn rules(dir: &str) -> Vec<String> {
    files(dir, "sync").into_iter().map(|file| file.text).collect()
}

/// Rules in the documentation.
fn shown() -> Vec<String> {
    let texts = ["README.md", "docs/rules.md"]
        .map(|name| std::fs::read_to_string(root().join(name)).unwrap());
    let blocks = texts.iter().flat_map(|text| text.split("```").skip(1).step_by(2));
    blocks
        .filter_map(|block| block.split_once('\n'))
        .filter(|(language, text)| *language == "sync" || text.starts_with("sync "))
        .map(|(_, text)| text.to_owned())
        .collect()
}

/// All correct rules of the project.
fn corpus() -> Vec<String> {
    let golden = rules("crates/analysis/tests/golden");
    let correct = golden.into_iter().filter(|text| tree(text).is_ok());
    let all: Vec<String> =
        correct.chain(rules("syncs")).chain(shown()).chain([HARD.to_owned()]).collect();
    assert!(all.len() > 30, "{}", all.len());
    all
}

#[test]
fn correct_files_keep_meaning_and_comments() {
    for text in corpus() {
        check(&text);
    }
}

#[test]
fn files_with_syntax_errors_are_rejected() {
    let mut refused = 0;
    for text in rules("crates/analysis/tests/golden") {
        let result = format(&source(&text));
        assert_eq!(result.is_ok(), tree(&text).is_ok(), "{text}");
        refused += usize::from(result.is_err());
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn project_rules_and_documented_rules_are_formatted() {
    let texts = [rules("syncs"), shown()].concat();
    assert!(texts.len() >= 5, "{}", texts.len());
    for text in texts {
        assert_eq!(check(&text), text);
    }
}

#[test]
fn hard_file_is_formatted_as_expected() {
    let expected = root().join("crates/lang/tests/format/hard.sync.expected");
    let formatted = check(HARD);
    if std::env::var_os("CONCERT_BLESS").is_some() {
        std::fs::write(&expected, &formatted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&expected).unwrap(), formatted);
}

/// White space that may separate two tokens without changing the meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Spaces and tabs.
    Blanks,
    /// Spaces, tabs and line ends.
    Any,
    /// At least one line end.
    Line,
}

const BLANKS: &[&str] = &[" ", "  ", "\t", " \t "];
const BREAKS: &[&str] = &[
    "\n",
    "\r\n",
    "\n\n\n",
    "\n    ",
    " \n\t",
    " // a\n",
    "// b\r\n    ",
    "\n// c\n",
    "\n    // d\n\n// e\n",
    " // f\n// g\n\n    // h\n    ",
];
/// The breaks before this index contain no comment.
const FIRST_COMMENT: usize = 5;

/// Replaces the white space and comments between the tokens, as selected by `choices`.
fn scrambled(text: &str, choices: &[u8], breaks: &[&str]) -> String {
    let file = source(text);
    let lexed = lex(0, &file, &mut Vec::new());
    let mut tokens: Vec<&Token> = lexed.tokens.iter().collect();
    tokens.retain(|token| token.kind != TokenKind::End);
    let mut choices = choices.iter().cycle().map(|choice| usize::from(*choice));
    let mut out = String::new();
    let mut depth = 0_usize;
    let mut before = [None, None];
    let mut ends_line = false;
    for (number, token) in tokens.iter().enumerate() {
        if token.kind == TokenKind::Line {
            ends_line = true;
            continue;
        }
        let begins_part = is_word(&token.kind, "else")
            && tokens.get(number + 1).is_some_and(|next| next.kind == TokenKind::Symbol("("));
        let gap =
            if ends_line || begins_part { Gap::Line } else { gap(before, &token.kind, depth) };
        let choice = choices.next().unwrap();
        let pick = |from: &[&'static str]| *from.get(choice / 4 % from.len()).unwrap();
        if out.ends_with('/') {
            // A comment directly after a division would change its meaning.
            out.push(' ');
        }
        out.push_str(match gap {
            _ if out.is_empty() => "",
            Gap::Any if choice % 4 == 0 => breaks.get(choice / 4 % breaks.len()).unwrap(),
            Gap::Line => breaks.get(choice / 4 % breaks.len()).unwrap(),
            _ => pick(BLANKS),
        });
        out.push_str(file.text.get(token.span.start..token.span.end).unwrap());
        match token.kind {
            TokenKind::Symbol("(" | "[" | "{") => depth += 1,
            TokenKind::Symbol(")" | "]" | "}") => depth -= 1,
            _ => {}
        }
        before = [before[1], Some(&token.kind)];
        ends_line = false;
    }
    out.push('\n');
    out
}

fn is_word(kind: &TokenKind, word: &str) -> bool {
    matches!(kind, TokenKind::Word(found) if found == word)
}

fn gap(before: [Option<&TokenKind>; 2], next: &TokenKind, depth: usize) -> Gap {
    if depth > 0 && KEYWORDS.iter().any(|keyword| is_word(next, keyword)) {
        // At the start of a line it could be read as the next section of the rule.
        return Gap::Blanks;
    }
    let goes_on = match (before, next) {
        (_, TokenKind::Symbol(":")) => true,
        (_, next) if is_word(next, "else") => true,
        ([before, Some(TokenKind::Word(word))], _) => {
            ["and", "or", "in"].contains(&word.as_str()) && before != Some(&TokenKind::Symbol("."))
        }
        ([_, Some(TokenKind::Symbol(symbol))], _) => {
            ["==", "!=", "<=", ">=", "??", "<", ">", "+", "-", "*", "/"].contains(symbol)
        }
        _ => false,
    };
    if depth > 0 || goes_on { Gap::Any } else { Gap::Blanks }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_white_space_keeps_meaning_and_comments(
        text in prop::sample::select(corpus()),
        choices in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        let scrambled = scrambled(&text, &choices, BREAKS);
        prop_assert!(tree(&scrambled).is_ok(), "the test broke the file:\n{}", scrambled);
        check(&scrambled);
    }

    #[test]
    fn layout_without_comments_is_unique(
        text in prop::sample::select(corpus()),
        choices in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        let (without_comments, _) = BREAKS.split_at(FIRST_COMMENT);
        let plain = check(&scrambled(&text, &[0], &["\n"]));
        prop_assert_eq!(check(&scrambled(&text, &choices, without_comments)), plain);
    }
}
