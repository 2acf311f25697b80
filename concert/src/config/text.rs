//! Values from text: variables and flags.

use std::ffi::OsString;
use std::fmt;

use serde_json::Value;

use super::catalogue::{self, Found, is_concept};
use super::names::{Form, NAMES, Name, PREFIX, SEPARATOR, cookie, passthrough, variable};
use super::problem::Problem;
use super::source::{Given, Origin};
use super::value::{self, Kind};

/// A deprecated name in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeprecatedName {
    pub(super) key: &'static str,
    name: String,
    instead: String,
}

impl fmt::Display for DeprecatedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is deprecated and will be removed in the next version; use {} or {} in \
             concert.toml",
            self.name, self.instead, self.key
        )
    }
}

/// Reads a text for a key.
pub(super) fn read(
    path: Vec<String>,
    text: &str,
    form: Form,
    origin: Origin,
) -> Result<Given, Problem> {
    // The cookie is the only name whose key is a table of keys.
    if form == Form::Cookie {
        return match cookie(text) {
            Ok(value) => Ok(Given { path, value, origin }),
            Err(message) => Err(bad_value(&origin, &path, message)),
        };
    }
    let Found::Key(key) = catalogue::find(&path) else {
        return Err(Problem::UnknownKey {
            at: origin,
            suggestion: catalogue::nearest(&path),
            key: path.join("."),
        });
    };
    let is_whole = key.path.split('.').count() == path.len();
    let kind = if is_whole { &key.kind } else { &Kind::Text };
    let value = match form {
        Form::Off => {
            Kind::Bool.read(text, ',').map(|truth| Value::Bool(truth == Value::Bool(false)))
        }
        Form::List(separator) => Kind::List.read(text, separator),
        Form::Passthrough => Ok(passthrough(text)),
        Form::Plain | Form::Switch | Form::Port if is_whole => kind.read(text, ','),
        Form::Plain | Form::Switch | Form::Port | Form::Cookie => Ok(value::guess(text)),
    };
    match value {
        Ok(value) => Ok(Given { path, value, origin }),
        Err(message) => Err(bad_value(&origin, &path, message)),
    }
}

fn bad_value(origin: &Origin, path: &[String], message: String) -> Problem {
    Problem::BadValue { at: origin.to_string(), key: path.join("."), message }
}

/// Parses a path. Free keys may contain dots: `http.passthrough.Profile.authenticate`.
pub(super) fn path(written: &str) -> Vec<String> {
    let parts: Vec<String> = written.split('.').map(str::to_owned).collect();
    let Found::Key(key) = catalogue::find(&parts) else {
        return parts;
    };
    let own = key.path.split('.').count();
    match parts.split_at_checked(own) {
        Some((head, rest))
            if !rest.is_empty()
                && !matches!(parts.first(), Some(section) if section == "workers") =>
        {
            [head, &[rest.join(".")]].concat()
        }
        _ => parts,
    }
}

/// Values of environment variables, in order of precedence, and the deprecated names among them.
pub(super) fn environment(
    variables: &[(OsString, OsString)],
    concepts: &[String],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<DeprecatedName>,
) -> Vec<Given> {
    let mut read_one = |path, name: &str, text: &OsString, form| {
        let origin = Origin::Variable(name.to_owned());
        let Some(text) = text.to_str() else {
            problems.push(Problem::BadValue {
                at: origin.to_string(),
                key: name.to_owned(),
                message: "the value is not UTF-8".to_owned(),
            });
            return None;
        };
        read(path, text, form, origin).map_err(|problem| problems.push(problem)).ok()
    };
    // An empty variable counts as unset.
    let set: Vec<(&str, &OsString)> = variables
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .filter_map(|(name, text)| Some((name.to_str()?, text)))
        .collect();
    let mut given = Vec::new();
    for name in NAMES.iter().filter(|name| !name.variable.is_empty()) {
        let Some((_, text)) = set.iter().find(|(set, _)| *set == name.variable) else {
            continue;
        };
        if name.form == Form::Port
            && text.to_str().is_none_or(|text| text.trim().parse::<u16>().is_err())
        {
            continue;
        }
        if !name.has_standard_variable() {
            warnings.push(DeprecatedName {
                key: name.key,
                name: name.variable.to_owned(),
                instead: variable(name.key),
            });
        }
        given.extend(read_one(path(name.key), name.variable, text, name.form));
    }
    // Variables of sections come last, so that they win over the names above.
    for (name, text) in set {
        let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains(SEPARATOR)) else {
            continue;
        };
        given.extend(read_one(of_variable(key, concepts), name, text, Form::Plain));
    }
    given
}

/// The path of a variable such as `HTTP__LISTEN`. Upper and lower case of a concept's name are
/// equal.
fn of_variable(key: &str, concepts: &[String]) -> Vec<String> {
    let mut path: Vec<String> = key.split(SEPARATOR).map(str::to_ascii_lowercase).collect();
    let is_below = path.len() > 2;
    if let [section, concept, ..] = &mut *path
        && section == "workers"
    {
        let known = concepts.iter().find(|known| known.eq_ignore_ascii_case(concept));
        match known {
            Some(known) => known.clone_into(concept),
            // Keys of `[workers]` have no parts below them, so this is a concept. Its worker may be
            // in another program.
            None if is_below => {
                concept.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase)
            }
            None => {}
        }
    }
    path
}

/// A flag and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flag {
    /// A flag of [`NAMES`].
    Named(&'static str, String),
    /// `--set key=value`
    Set(String),
}

/// Values of flags, and the deprecated names among them.
pub(super) fn flags(
    flags: &[Flag],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<DeprecatedName>,
) -> Vec<Given> {
    let mut given: Vec<Given> = Vec::new();
    for flag in flags {
        let read = match flag {
            Flag::Named(flag, text) => {
                let Some(name) = NAMES.iter().find(|name| name.flag == *flag) else {
                    continue;
                };
                if name.support == super::names::Support::Deprecated {
                    let warning = deprecated_flag(name);
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                }
                read(path(name.key), text, name.form, Origin::Flag(format!("--{flag}")))
            }
            Flag::Set(text) => {
                let origin = Origin::Flag("--set".to_owned());
                match text.split_once('=') {
                    Some((key, text)) => read(path(key.trim()), text, Form::Plain, origin),
                    None => Err(Problem::BadValue {
                        at: origin.to_string(),
                        key: text.clone(),
                        message: "`section.key=value` is expected".to_owned(),
                    }),
                }
            }
        };
        match read {
            // A repeated flag adds to its list.
            Ok(read) => match given
                .iter_mut()
                .find(|before| before.path == read.path && before.origin == read.origin)
            {
                Some(before) => add(&mut before.value, read.value),
                None => given.push(read),
            },
            Err(problem) => problems.push(problem),
        }
    }
    given
}

fn add(before: &mut Value, more: Value) {
    match (before, more) {
        (Value::Array(items), Value::Array(more)) => items.extend(more),
        (Value::Object(entries), Value::Object(more)) => entries.extend(more),
        (before, more) => *before = more,
    }
}

fn deprecated_flag(name: &Name) -> DeprecatedName {
    DeprecatedName {
        key: name.key,
        name: format!("--{}", name.flag),
        instead: format!("--set {}=…", name.key),
    }
}

/// The concept of a path, if it has one.
pub(super) fn concept(path: &[String]) -> Option<&String> {
    match path {
        [section, concept, ..] if section == "workers" && is_concept(concept) => Some(concept),
        _ => None,
    }
}
