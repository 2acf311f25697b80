//! The Markdown of the project: its links and file names exist, and its prose is short.

use std::path::{Path, PathBuf};

use concert_tests::binaries::root;

/// Maximum width of a prose line, in characters.
const MAX_WIDTH: usize = 100;

/// Maximum length of a sentence, in words.
const MAX_WORDS: usize = 30;

/// Folders of the project whose files documents name in code spans.
const FOLDERS: [&str; 13] = [
    "archive",
    "benchmarks",
    "concert",
    "crates",
    "deploy",
    "docs",
    "editors",
    "examples",
    "fuzz",
    "http-edge",
    "sync-router",
    "tests",
    "workers",
];

/// The Markdown files of the project, relative to its root.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_generated = ["target", "node_modules"].contains(&name.as_str());
            if path.is_dir() && !is_generated && !name.starts_with('.') {
                waiting.push(path);
            } else if name.ends_with(".md") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 80, "{}", found.len());
    found
}

fn read(document: &Path) -> String {
    std::fs::read_to_string(root().join(document)).unwrap()
}

/// The lines outside code blocks, with their numbers.
fn lines(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered
        .filter(|(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        })
        .collect()
}

/// The paragraphs and list items, each with the number of its first line.
fn paragraphs(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut is_open = false;
    for (number, line) in lines(text) {
        let content = line.trim();
        let is_prose = !content.is_empty() && !content.starts_with(['|', '#', '<', '!']);
        let marker = content.split(' ').next().unwrap_or_default();
        let is_item = marker == "-" || marker.strip_suffix('.').is_some_and(is_number);
        match found.last_mut() {
            Some((_, lines)) if is_open && is_prose && !is_item => lines.push(line),
            _ if is_prose => found.push((number, vec![line])),
            _ => {}
        }
        is_open = is_prose;
    }
    found
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

/// A text whose code spans are one word each.
fn without_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 0 { part } else { "code" }).collect()
}

/// The targets of the links in a text, and the text without them.
fn links(text: &str) -> (Vec<String>, String) {
    let mut targets = Vec::new();
    let mut parts = text.split("](");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (target, after) = part.split_once(')').unwrap_or((part, ""));
        targets.push(target.to_owned());
        rest.push_str(after);
    }
    (targets, rest)
}

/// The anchors that GitHub gives to the headings of a document.
fn anchors(text: &str) -> Vec<String> {
    let headings = lines(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    let slug = |heading: &str| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let text: String = heading.trim_start_matches('#').trim().chars().filter(kept).collect();
        text.to_lowercase().replace(' ', "-")
    };
    headings.map(|(_, line)| slug(line)).collect()
}

/// The number of words of each sentence.
fn sentence_lengths(text: &str) -> Vec<usize> {
    let (_, text) = links(&without_code(text));
    let mut lengths = vec![0];
    for word in text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)) {
        *lengths.last_mut().unwrap() += 1;
        if word.trim_end_matches([')', '*', '"', ']', '_']).ends_with(['.', '!', '?']) {
            lengths.push(0);
        }
    }
    lengths
}

/// Fails with every finding of a check of all documents.
#[track_caller]
fn check(findings: impl Fn(&Path, &str) -> Vec<String>) {
    let all: Vec<String> = documents()
        .iter()
        .flat_map(|document| {
            let found = findings(document, &read(document));
            found.into_iter().map(|finding| format!("{}:{finding}", document.display()))
        })
        .collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn link_in_document_leads_to_file_and_heading() {
    check(|document, text| {
        let folder = root().join(document.parent().unwrap());
        let mut broken = Vec::new();
        for (number, line) in lines(text) {
            for target in links(&without_code(line)).0 {
                let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
                let path = if file.is_empty() { root().join(document) } else { folder.join(file) };
                let has_anchor = || {
                    let known = std::fs::read_to_string(&path).map(|text| anchors(&text));
                    anchor.is_empty() || known.is_ok_and(|known| known.iter().any(|a| a == anchor))
                };
                let is_found = target.contains("://") || path.exists() && has_anchor();
                if !is_found {
                    broken.push(format!("{number}: link to {target}"));
                }
            }
        }
        broken
    });
}

#[test]
fn file_name_in_document_exists() {
    check(|document, text| {
        // Decisions and the changelog describe earlier layouts too.
        if document.starts_with("docs/adr") || document == Path::new("CHANGELOG.md") {
            return Vec::new();
        }
        let mut missing = Vec::new();
        for (number, line) in lines(text) {
            for span in line.split('`').skip(1).step_by(2) {
                let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
                let mut parts = span.split('/');
                let is_ours = parts.next().is_some_and(|first| FOLDERS.contains(&first))
                    && parts.next_back().is_some_and(|name| name.contains('.'));
                if is_ours && span.chars().all(is_path) && !root().join(span).exists() {
                    missing.push(format!("{number}: {span}"));
                }
            }
        }
        missing
    });
}

#[test]
fn code_map_names_existing_files() {
    let text = read(Path::new("ARCHITECTURE.md"));
    let map = text.split("```").nth(1).unwrap();
    let names = map.lines().filter_map(|line| line.split_whitespace().next());
    let missing: Vec<&str> = names.filter(|name| !root().join(name).exists()).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn prose_fits_width() {
    check(|_, text| {
        let lines = paragraphs(text).into_iter().flat_map(|(first, lines)| (first..).zip(lines));
        // A word that is longer than a line cannot be wrapped.
        let wide = lines.filter(|(_, line)| {
            line.chars().count() > MAX_WIDTH && without_code(line).trim().contains(' ')
        });
        wide.map(|(number, line)| format!("{number}: {} characters", line.chars().count()))
            .collect()
    });
}

#[test]
fn sentence_is_short() {
    check(|_, text| {
        let mut long = Vec::new();
        for (number, lines) in paragraphs(text) {
            let text = lines.join(" ");
            for words in sentence_lengths(&text).into_iter().filter(|words| *words > MAX_WORDS) {
                long.push(format!("{number}: a sentence of {words} words: {}", lines[0].trim()));
            }
        }
        long
    });
}

#[test]
fn document_checks_find_what_they_look_for() {
    assert_eq!(sentence_lengths("One [two](a.b) `three four`. Five (six.) Seven"), [3, 2, 1]);
    assert_eq!(links("[a](b.md#c) and [d](e)").0, ["b.md#c", "e"]);
    assert_eq!(anchors("# A `b`, c\n```\n# no\n```\n## What is_it?"), ["a-b-c", "what-is_it"]);
    let text = "# No\n\none\ntwo\n\n- three\n  four\n- five\n| no |\n```\nno\n```\n1. six\n";
    let found: Vec<(usize, usize)> =
        paragraphs(text).into_iter().map(|(first, lines)| (first, lines.len())).collect();
    assert_eq!(found, [(3, 2), (6, 2), (8, 1), (13, 1)]);
}
