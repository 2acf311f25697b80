//! Rows of the `_rules` query: the parts, the source location and the firings of each rule.

use concert_lang::Texts;
use concert_lang::program::{Call, Sync, queries};
use concert_lang::source::SourceFile;
use concert_wire::envelope::Object;
use serde_json::{Value, json};

use crate::firings::Firings;
use crate::rule_cache::RuleVersion;

/// One row for each rule: its patterns, its queries, the calls of `then` and of every `else`, its
/// text and location, and its firings.
pub(crate) fn syncs(compiled: &RuleVersion, firings: &Firings) -> Vec<Value> {
    let rows = compiled.rules.program().syncs.iter().map(|sync| {
        let mut row = parts(sync);
        row.insert("firings".to_owned(), json!(firings.of(&sync.name)));
        row.extend(location(&compiled.texts, &sync.name).into_iter().flatten());
        json!(row)
    });
    rows.collect()
}

fn parts(sync: &Sync) -> Object {
    let when = sync.when.iter();
    let when = when.map(|pattern| format!("{}.{}", pattern.concept, pattern.action));
    let called = queries(&sync.steps).into_iter();
    let called = called.map(|query| format!("{}.{}", query.concept, query.name));
    let names = |calls: &mut dyn Iterator<Item = &Call>| -> Vec<String> {
        calls.map(|call| format!("{}.{}", call.concept, call.action)).collect()
    };
    let after_failure = sync.otherwise.iter().flat_map(|otherwise| &otherwise.calls);
    Object::from_iter([
        ("name".to_owned(), json!(&*sync.name)),
        ("when".to_owned(), json!(when.collect::<Vec<_>>())),
        ("where".to_owned(), json!(called.collect::<Vec<_>>())),
        ("then".to_owned(), json!(names(&mut sync.then.iter()))),
        ("else".to_owned(), json!(names(&mut sync.elses.iter().chain(after_failure)))),
    ])
}

/// Location of a rule, and its text with the comment above it.
fn location(texts: &Texts, name: &str) -> Option<Object> {
    let heading = |line: &str| line.split_whitespace().eq(["sync", name]);
    texts.syncs.iter().find_map(|file| {
        let lines: Vec<&str> = file.text.lines().collect();
        let at = lines.iter().position(|line| heading(line))?;
        let is_comment = |line: &&&str| line.trim_start().starts_with("//");
        let comment = lines.iter().take(at).rev().take_while(is_comment).count();
        let (first, last) = (at - comment, end(&lines, at));
        let text = lines.get(first..=last)?.join("\n");
        Some(object(file, first, last, text))
    })
}

/// Last line of the rule whose heading is on line `at`.
fn end(lines: &[&str], at: usize) -> usize {
    let next = lines.iter().skip(at + 1).position(|line| line.starts_with("sync "));
    let until = next.map_or(lines.len(), |next| at + 1 + next);
    let is_of_rule = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let last = lines.iter().take(until).enumerate().rev();
    last.map(|(number, line)| (number, *line))
        .find(|(number, line)| *number == at || is_of_rule(line))
        .map_or(at, |(number, _)| number)
}

fn object(file: &SourceFile, first: usize, last: usize, text: String) -> Object {
    Object::from_iter([
        ("file".to_owned(), Value::from(file.name.as_str())),
        ("line".to_owned(), Value::from(first + 1)),
        ("end_line".to_owned(), Value::from(last + 1)),
        ("text".to_owned(), Value::from(text)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_text_has_its_own_comment_and_not_the_next_one() {
        let text = "// File.\n\n// One.\nsync One\nwhen\n    A.b ()\n\nthen\n    C.d ()\n\n// Two.\nsync Two\nwhen\n    A.b ()\nthen\n    C.d ()\n";
        let texts = Texts {
            concepts: Vec::new(),
            syncs: vec![SourceFile::new("x.sync".to_owned(), text.to_owned())],
        };
        let found = location(&texts, "One").unwrap();
        assert_eq!((found.get("line"), found.get("end_line")), (Some(&json!(3)), Some(&json!(9))));
        let shown = found.get("text").and_then(Value::as_str).unwrap();
        assert_eq!(shown, "// One.\nsync One\nwhen\n    A.b ()\n\nthen\n    C.d ()");
        assert_eq!(location(&texts, "Two").unwrap().get("end_line"), Some(&json!(16)));
        assert_eq!(location(&texts, "Tw"), None);
    }
}
