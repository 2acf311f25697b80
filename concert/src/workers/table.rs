//! A worker's settings, from a table: the built-in workers declare theirs for clap.

use clap::{Args, Command};
use serde_json::Value;

/// Reads a table as the flags that its keys stand for.
pub(super) fn read<T: Args>(settings: &Value, flag: impl Fn(&str) -> String) -> Result<T, String> {
    // The variables of these flags are old names, which the configuration has read.
    let command = T::augment_args(Command::new("settings").no_binary_name(true)).mut_args(|arg| arg.env(None));
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect();
    let mut words = Vec::new();
    for (key, value) in settings.as_object().into_iter().flatten() {
        let flag = flag(key);
        if !known.contains(&flag) {
            return Err(format!("unknown key `{key}`"));
        }
        let items = match value {
            Value::Array(items) => items.iter().map(text).collect(),
            value => vec![text(value)],
        };
        words.extend(items.into_iter().map(|item| format!("--{flag}={item}")));
    }
    let matches = command
        .try_get_matches_from(words)
        .map_err(|error| first_line(&error))?;
    T::from_arg_matches(&matches).map_err(|error| first_line(&error))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn first_line(error: &clap::Error) -> String {
    let told = error.to_string();
    let line = told.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
