//! Flags of version 0.1.0: each flag, variable and default still has the same meaning.

use clap::ValueEnum as _;
use serde_json::{Map, Value, json};

use super::names::{Form, NAMES};
use super::*;
use crate::built_in;

/// `command flag variable default` of each flag, from the settings page of 0.1.0. Additions: the
/// drain delay, which was hard-coded. Changes: the current name of a log target, and `concert keys`
/// finds the keys of a running system. `router.firing_frames` was 500.
const RELEASED: &str = include_str!("released.txt");

/// Flags that are not settings.
const OWN: [&str; 6] =
    ["started-file", "nats-accounts", "hand-out", "streams", "replica-host", "nats-pid-file"];

struct Flag {
    command: Command,
    name: &'static names::Name,
    /// As text, or empty.
    default: &'static str,
}

fn released() -> Vec<Flag> {
    let mut flags = Vec::new();
    for line in RELEASED.lines() {
        let [command, flag, variable, default]: [&str; 4] =
            line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        if OWN.contains(&flag) {
            continue;
        }
        let command = Command::from_str(command, false).unwrap();
        let name = NAMES
            .iter()
            .find(|name| name.flag == flag)
            .unwrap_or_else(|| panic!("--{flag} is missing"));
        assert_eq!(name.variable, variable, "--{flag}");
        assert!(command.uses(name.key), "--{flag} of {command:?}");
        flags.push(Flag { command, name, default: if default == "-" { "" } else { default } });
    }
    assert!(flags.len() > 230, "{}", flags.len());
    flags
}

fn load_bare(command: Command) -> Loaded {
    let inputs = Inputs { root: PathBuf::new(), file: None, variables: Vec::new(), flags: &[] };
    load(command, &inputs, &built_in::workers()).unwrap()
}

fn text(value: &Value, form: Form) -> String {
    match (value, form) {
        (Value::Bool(truth), Form::Off) if *truth => String::new(),
        (Value::Null | Value::Bool(false), _) => String::new(),
        (Value::String(text), _) => text.clone(),
        (Value::Array(items), _) if items.is_empty() => String::new(),
        (Value::Object(entries), _) if entries.is_empty() => String::new(),
        (Value::Number(number), _) if number.as_f64() == Some(1.0) => "1".to_owned(),
        (value, _) => value.to_string(),
    }
}

/// The settings of a worker with all defaults.
fn settings_of(concept: &str, settings: &Value) -> Value {
    match concept {
        "Profile" => {
            json!(serde_json::from_value::<built_in::profile::Settings>(settings.clone()).unwrap())
        }
        _ => json!(
            serde_json::from_value::<built_in::sessioning::Settings>(settings.clone()).unwrap()
        ),
    }
}

#[test]
fn defaults_equal_those_of_the_released_version() {
    let mut own: Map<String, Value> = Map::new();
    for Flag { command, name, default } in released() {
        if let Some(setting) =
            name.key.strip_prefix("workers.").filter(|key| key.contains(".settings."))
        {
            own.insert(setting.to_owned(), default.into());
            continue;
        }
        let default = match name.key {
            // 0 stands for what the memory of the machine allows, else for the released default.
            "log.max_messages" => "0",
            // The released limit stopped rules that collect a list of more than 500 rows.
            "router.firing_frames" => "5000",
            _ => default,
        };
        let path: Vec<&str> = name.key.split('.').collect();
        let loaded = load_bare(command);
        let found = match name.key {
            // Used if no `concert up` runs.
            "nats.url" if command != Command::Up => json!(loaded.settings.nats.bus().nats_url),
            "mongodb.uri" if command != Command::Up => json!(loaded.settings.store().mongodb_uri),
            _ => loaded.merged.value(&path),
        };
        assert_eq!(text(&found, name.form), default, "{} of {command:?}", name.key);
    }
    assert_eq!(own.len(), 14);
    for worker in built_in::workers() {
        let own = own.iter().filter(|(_, default)| **default != json!(""));
        let prefix = format!("{}.settings.", worker.concept());
        let own = own.filter_map(|(key, default)| {
            Some((key.strip_prefix(&prefix)?.to_owned(), super::value::guess(default.as_str()?)))
        });
        let released = Value::Object(own.collect());
        assert_eq!(
            settings_of(worker.concept(), &json!({})),
            settings_of(worker.concept(), &released),
            "{}",
            worker.concept()
        );
    }
}

#[test]
fn page_contains_the_defaults_of_built_in_workers() {
    let mut rows = 0;
    for line in super::show::BUILT_IN.lines() {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let Some(key) = cells.get(1).and_then(|key| key.strip_prefix("workers.")) else {
            continue;
        };
        let (concept, name) = key.split_once(".settings.").unwrap();
        let default = json!({ name: super::value::guess(cells[3]) });
        assert_eq!(settings_of(concept, &default), settings_of(concept, &json!({})), "{key}");
        rows += 1;
    }
    assert_eq!(rows, 19);
}

#[test]
fn keys_of_concert_up_are_in_its_data_directory() {
    assert_eq!(load_bare(Command::Up).settings.app.keys_dir(), Path::new(".concert/keys"));
    assert_eq!(load_bare(Command::Operator).settings.app.keys_dir(), Path::new(".concert/keys"));
    assert_eq!(load_bare(Command::Worker).settings.app.keys_dir(), Path::new("keys"));
}

#[test]
fn only_concert_up_enables_the_console_by_default() {
    let is_shown = |command| {
        let console = load_bare(command).settings.console;
        (console.enabled, console.is_concert_up)
    };
    assert_eq!(is_shown(Command::Up), (None, true));
    assert_eq!(is_shown(Command::HttpEdge), (None, false));
}
