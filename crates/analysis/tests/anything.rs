//! The parsers accept any text without a panic, continue after errors, and report valid locations.

use concert_analysis::verify;
use concert_lang::format;
use concert_lang::requesting;
use concert_lang::source::SourceFile;
use proptest::prelude::*;

const PIECES: &[&str] = &[
    "sync ",
    "when",
    "where",
    "then",
    "else",
    "Case",
    "a",
    "_q",
    "error",
    "Requesting",
    ".request",
    ".",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "?",
    "??",
    "...",
    "=",
    "==",
    "<",
    "+",
    "-",
    "*",
    "/",
    " ",
    "\n",
    "\n    ",
    "\"text\"",
    "\"",
    "'",
    "“",
    "5",
    "1e9",
    "0.5",
    "// x",
    "\t",
    "\r\n",
    "é",
    "日本",
    "\u{feff}",
    "\u{0}",
    "not ",
    "in ",
    "and ",
    "let ",
    "each ",
    "collect ",
    "as ",
    "optional ",
    "no ",
    "some ",
    "true",
    "null",
    "concept ",
    "purpose",
    "actions",
    "queries",
    "state",
    "seq of ",
    "String",
    "Secret",
    "effects ",
];

fn check(text: &str) {
    let file = |name: &str| SourceFile::new(name, text);
    for (concepts, syncs) in
        [(vec![requesting::source()], vec![file("a.sync")]), (vec![file("A.concept")], vec![])]
    {
        let Err(report) = verify(&concepts, &syncs) else {
            continue;
        };
        for diagnostic in &report.diagnostics {
            let source = report.sources.get(diagnostic.span.file);
            let place = source
                .and_then(|source| source.text.get(diagnostic.span.start..diagnostic.span.end));
            assert!(place.is_some(), "{diagnostic:?}");
        }
        assert!(report.to_string().contains("-->"));
    }
    if let Ok(formatted) = format(&file("a.sync")) {
        assert_eq!(format(&SourceFile::new("a.sync", formatted.as_str())).as_ref(), Ok(&formatted));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_reported(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn any_tokens_are_parsed_or_reported(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..80),
    ) {
        check(&pieces.concat());
    }

    #[test]
    fn any_part_of_a_real_file_is_parsed_or_reported(from in 0_usize..2000, to in 0_usize..2000) {
        let text = include_str!("../../../syncs/auth.sync");
        if let Some(part) = text.get(from.min(to)..from.max(to)) {
            check(part);
        }
    }
}

#[test]
fn deep_nesting_is_reported_without_overflow() {
    for open in ["(", "[", "{a: ", "not ", "a.", "1 + ", "-"] {
        check(&format!(
            "sync Case\nwhen\n    Requesting.request (path: \"/x\") : (request)\nthen\n    Requesting.respond (request, v: {}",
            open.repeat(100_000)
        ));
    }
}
