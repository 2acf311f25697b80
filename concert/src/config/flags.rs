//! Defines the flags of settings for clap.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, value_parser};
use serde_json::Value;

use super::catalogue::{self, Key};
use super::command::Command;
use super::names::{Form, NAMES, Name, Support};
use super::text::Flag;

/// A command whose flags are settings.
pub trait Uses: Clone + fmt::Debug + Send + Sync + 'static {
    /// The command.
    const COMMAND: Command;
}

/// The flags of a command: `--config`, `--set`, some settings, and deprecated names of others.
#[derive(Debug, Clone)]
pub struct SettingFlags<C> {
    pub(super) config: Option<PathBuf>,
    pub(super) given: Vec<Flag>,
    command: PhantomData<C>,
}

impl<C> Default for SettingFlags<C> {
    fn default() -> Self {
        Self { config: None, given: Vec::new(), command: PhantomData }
    }
}

const CONFIG: &str = "config";
const SET: &str = "set";

impl<C: Uses> Args for SettingFlags<C> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(
                "Configuration file; if not given, `concert.toml` in the directory of the \
                 application",
            );
        let set = Arg::new(SET)
            .long(SET)
            .value_name("SECTION.KEY=VALUE")
            .action(ArgAction::Append)
            .help("Set any setting; `concert config reference` lists them. Repeatable");
        let used = NAMES.iter().filter(|name| !name.flag.is_empty() && C::COMMAND.uses(name.key));
        let flags = used.map(|name| flag(name, C::COMMAND));
        command.arg(config).args(flags).arg(set)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Clap's ID of a flag. It differs from the flag, because a command may have an argument of that
/// name.
fn id(name: &Name) -> &'static str {
    if name.variable.is_empty() { name.key } else { name.variable }
}

fn flag(name: &'static Name, command: Command) -> Arg {
    let shown = match name.support {
        Support::Deprecated => false,
        Support::Everywhere => true,
        Support::InServices => command != Command::Up,
    };
    let arg = Arg::new(id(name))
        .long(name.flag)
        .hide(!shown)
        // `concert dead list --data-dir …`, too.
        .global(matches!(command, Command::Operator | Command::Keys))
        .action(ArgAction::Append)
        .help(help(name, command));
    match name.form {
        Form::Switch | Form::Off => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true)
            .value_name("BOOL"),
        _ => arg.value_name(value_name(name.key)),
    }
}

/// Placeholder of a value in help texts.
fn value_name(key: &str) -> &'static str {
    match key.rsplit(['.', '_']).next().unwrap_or_default() {
        "dir" | "concepts" | "syncs" => "DIR",
        "creds" | "nkey" | "ca" | "cert" | "key" | "file" => "FILE",
        "listen" => "ADDRESS",
        "port" => "PORT",
        "url" | "uri" => "URL",
        "interval" => "INTERVAL",
        "base" => "PATH",
        "log" => "FILTER",
        "format" => "FORMAT",
        _ => "VALUE",
    }
}

fn help(name: &Name, command: Command) -> String {
    let Some(key) = catalogue::keys().iter().find(|key| key.path == name.key) else {
        return String::new();
    };
    let meaning = key.meaning.trim_end_matches('.');
    if name.form == Form::Off {
        let (first, rest) = meaning.split_at(meaning.chars().next().map_or(0, char::len_utf8));
        return format!("Do not {}{rest}", first.to_lowercase());
    }
    match default(key, command) {
        Value::Null | Value::Bool(false) => meaning.to_owned(),
        Value::String(text) => format!("{meaning} [default: {text}]"),
        default => format!("{meaning} [default: {default}]"),
    }
}

/// A key's default for a command.
pub(super) fn default(key: &Key, command: Command) -> Value {
    let own = command.defaults().into_iter().find(|(path, _)| *path == key.path);
    own.map_or_else(|| key.default.clone(), |(_, value)| value)
}

impl<C: Uses> FromArgMatches for SettingFlags<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>(CONFIG).cloned();
        self.given.clear();
        for name in NAMES.iter().filter(|name| C::COMMAND.uses(name.key)) {
            let texts = matches.get_many::<String>(id(name)).into_iter().flatten();
            self.given.extend(texts.map(|text| Flag::Named(name.flag, text.clone())));
        }
        let set = matches.get_many::<String>(SET).into_iter().flatten();
        self.given.extend(set.map(|text| Flag::Set(text.clone())));
        Ok(())
    }
}
