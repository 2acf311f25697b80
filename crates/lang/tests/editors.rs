//! Tests of the editor grammars against the language.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read its files fails"
)]

use std::path::Path;

use concert_lang::KEYWORDS;
use regex::Regex;
use serde_json::Value;

const GRAMMARS: [(&str, &str, &str); 2] = [
    ("concert.tmLanguage.json", "source.concert-sync", "sync"),
    ("concept.tmLanguage.json", "source.concert-concept", "concept"),
];

fn read(name: &str) -> Value {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../editors"));
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

/// Every object in a grammar.
fn objects<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            found.push(value);
            members.values().for_each(|member| objects(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| objects(item, found)),
        _ => {}
    }
}

/// The rules of a grammar, in their order.
struct Grammar(Vec<(Regex, Value)>);

impl Grammar {
    fn read(name: &str) -> Self {
        let grammar = read(name);
        let mut rules = Vec::new();
        for include in grammar["patterns"].as_array().unwrap() {
            let name = include["include"].as_str().unwrap().trim_start_matches('#');
            let rule = &grammar["repository"][name];
            let is_group = rule["match"].is_null() && rule["begin"].is_null();
            let one = vec![rule.clone()];
            for rule in if is_group { rule["patterns"].as_array().unwrap() } else { &one } {
                let pattern = rule["match"].as_str().or(rule["begin"].as_str()).unwrap();
                rules.push((Regex::new(pattern).unwrap(), rule.clone()));
            }
        }
        Self(rules)
    }

    /// Scope of the first match in a line, as an editor finds it: the name of the rule or of its
    /// first group.
    fn scope(&self, line: &str) -> &str {
        let mut best: Option<(usize, &str)> = None;
        for (pattern, rule) in &self.0 {
            let Some(groups) = pattern.captures(line) else {
                continue;
            };
            let at = groups.get(0).unwrap().start();
            let group = (1..groups.len()).find(|group| groups.get(*group).is_some());
            let captured =
                group.and_then(|group| rule["captures"][group.to_string()]["name"].as_str());
            if best.is_none_or(|(earliest, _)| at < earliest) {
                best = Some((at, rule["name"].as_str().or(captured).unwrap()));
            }
        }
        best.map_or("", |(_, scope)| scope)
    }
}

#[track_caller]
fn check(grammar: &Grammar, line: &str, expected: &str) {
    let found = grammar.scope(line);
    assert!(found.starts_with(expected), "`{line}` is {found}");
}

#[test]
fn grammars_have_valid_expressions_and_references() {
    for (file, scope, extension) in GRAMMARS {
        let grammar = read(file);
        assert_eq!(grammar["scopeName"], scope);
        assert_eq!(grammar["fileTypes"][0], extension);
        let language = scope.trim_start_matches("source");
        let mut all = Vec::new();
        objects(&grammar, &mut all);
        let mut count = 0;
        for object in all {
            for key in ["match", "begin", "end"] {
                if let Some(expression) = object[key].as_str() {
                    count += 1;
                    assert!(Regex::new(expression).is_ok(), "{file}: {expression}");
                }
            }
            if let Some(name) = object["include"].as_str() {
                let name = name.trim_start_matches('#');
                assert!(grammar["repository"][name].is_object(), "{file}: {name}");
            }
            if let Some(name) = object["name"].as_str().filter(|_| object["scopeName"].is_null()) {
                assert!(name.ends_with(language), "{file}: {name}");
            }
        }
        assert!(count > 8, "{file}: {count}");
    }
}

#[test]
fn grammar_knows_every_keyword() {
    let grammar = Grammar::read("concert.tmLanguage.json");
    for keyword in KEYWORDS {
        let expected = match *keyword {
            "true" | "false" | "null" => "constant.language",
            _ => "keyword.",
        };
        check(&grammar, keyword, expected);
        check(&grammar, &format!("    {keyword} x"), expected);
        // Keywords are names before a colon, after a dot and in longer words.
        check(&grammar, &format!("{keyword}: x"), "variable.parameter");
        check(&grammar, &format!(".{keyword}"), "punctuation.accessor");
        check(&grammar, &format!("{keyword}s"), "variable.other");
    }
}

#[test]
fn rule_syntax_gets_its_scopes() {
    let grammar = Grammar::read("concert.tmLanguage.json");
    for (line, expected) in [
        ("// when", "comment.line"),
        ("\"when // then\"", "string.quoted"),
        ("sync Rule", "keyword.declaration"),
        ("header \"Authorization: Token\" as session", "keyword.declaration"),
        ("header == other", "variable.other"),
        ("Concept._query (", "entity.name.type.concept"),
        ("Concept.action (", "entity.name.type.concept"),
        ("12.5e-3", "constant.numeric"),
        ("name?, other", "variable.parameter"),
        ("_id: other", "variable.parameter"),
        ("Title: other", "variable.parameter"),
        ("name ?? other", "variable.other"),
        ("?? other", "keyword.operator"),
    ] {
        check(&grammar, line, expected);
    }
}

#[test]
fn spec_syntax_gets_its_scopes() {
    let grammar = Grammar::read("concept.tmLanguage.json");
    for section in ["purpose", "principle", "state", "actions", "queries"] {
        check(&grammar, section, "keyword.control.section");
    }
    for kind in ["String", "Number", "Boolean", "Date", "Secret", "Any"] {
        check(&grammar, kind, "support.type");
    }
    for (line, expected) in [
        ("concept Shelving [User]", "keyword.declaration"),
        ("    shelve (owner: User)", "entity.name.function.action"),
        ("    _getTexts (owner: User)", "entity.name.function.query"),
        ("        effects adds", "keyword.other.prose"),
        ("        requires there", "keyword.other.prose"),
        ("pages?: Number", "variable.parameter"),
        ("seq of Text", "storage.modifier"),
        ("set of Text", "storage.modifier"),
        ("_id?: Text", "variable.parameter"),
        ("\"red\" | null", "string.quoted"),
        ("null, b", "constant.language"),
        ("| null", "keyword.operator"),
        ("(64)", "punctuation"),
        ("64)", "constant.numeric"),
        ("User", "entity.name.type.own"),
        ("...)", "keyword.operator"),
        ("// note", "comment.line"),
    ] {
        check(&grammar, line, expected);
    }
}

#[test]
fn extension_contributes_the_grammars() {
    let package = read("vscode/package.json");
    assert!(read("vscode/language-configuration.json").is_object());
    let contributed = package["contributes"]["grammars"].as_array().unwrap();
    assert_eq!(contributed.len(), GRAMMARS.len());
    for ((file, scope, extension), grammar) in GRAMMARS.into_iter().zip(contributed) {
        assert_eq!(grammar["path"], format!("./{file}"));
        assert_eq!(grammar["scopeName"], scope);
        let languages = package["contributes"]["languages"].as_array().unwrap();
        let language =
            languages.iter().find(|language| language["id"] == grammar["language"]).unwrap();
        assert_eq!(language["extensions"][0], format!(".{extension}"));
    }
}
