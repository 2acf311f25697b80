//! Reads `concert.toml`.

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::catalogue::{self, Found};
use super::problem::Problem;
use super::source::{Given, Origin};
use super::{text, value};

/// Name of the configuration file.
pub(crate) const NAME: &str = "concert.toml";

/// Reads all values of a file, and reports all problems. The caller checks the values: it knows
/// which keys are used.
pub(super) fn read(path: &str, text: &str, problems: &mut Vec<Problem>) -> Vec<Given> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { path, text, problems, given: Vec::new() };
    for error in errors {
        let at = reader.line(error.span().unwrap_or_default().start);
        let message = error.message().replace('\n', ", ");
        reader.problems.push(Problem::Syntax { at, message });
    }
    reader.table(&[], table.get_ref());
    reader.given
}

struct Reader<'a> {
    path: &'a str,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
    given: Vec<Given>,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        Origin::File {
            path: self.path.to_owned(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        }
    }

    fn table(&mut self, path: &[String], table: &DeTable<'_>) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let path = [path, &[name.get_ref().to_string()]].concat();
            self.entry(path, name, value);
        }
    }

    fn entry(
        &mut self,
        path: Vec<String>,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let at = self.line(name.span().start);
        match (catalogue::find(&path), value.get_ref()) {
            (Found::Unknown, _) => self.problems.push(Problem::UnknownKey {
                at,
                suggestion: catalogue::nearest(&path),
                key: path.join("."),
            }),
            (Found::Section, DeValue::Table(table)) => {
                // A concept counts as configured even if its section is empty.
                if text::concept(&path).is_some() {
                    self.given.push(Given {
                        path: path.clone(),
                        value: Value::Object(Map::new()),
                        origin: at,
                    });
                }
                self.table(&path, table);
            }
            // Each entry of a table with free keys has its own line.
            (Found::Key(key), DeValue::Table(table))
                if key.path.split('.').count() == path.len() =>
            {
                self.table(&path, table);
            }
            (Found::Section, _) => self.problems.push(Problem::BadValue {
                at: at.to_string(),
                key: path.join("."),
                message: "this is a section, not a value".to_owned(),
            }),
            (Found::Key(_), value) => match value::of_toml(value) {
                Some(value) => self.given.push(Given { path, value, origin: at }),
                None => self.problems.push(Problem::BadValue {
                    at: at.to_string(),
                    key: path.join("."),
                    message: "dates and numbers of more than 64 bits are not supported".to_owned(),
                }),
            },
        }
    }
}
