//! `concert config`: the effective values with their sources, and the list of all settings.

use clap::{Args, Subcommand, ValueEnum as _};
use concert_worker::Worker;
use serde_json::{Map, Value, json};

use super::Loaded;
use super::catalogue::{self, Key};
use super::command::Command;
use super::command::of;
use super::flags::SettingFlags;
use super::names::{self, Support};
use super::source::Merged;
use super::value::{self, Kind};
use crate::output;

/// Arguments of `concert config`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ConfigCommand {
    /// Print the effective settings and where each comes from
    Show(ShowArgs),
    /// Print every setting with its default and meaning, as Markdown
    Reference,
}

/// Arguments of `concert config show`.
#[derive(Debug, Clone, Args)]
struct ShowArgs {
    /// Command whose settings are shown
    #[arg(long = "for", value_enum, default_value_t = Command::Up, value_name = "COMMAND")]
    command: Command,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<of::Up>,
}

/// Runs `concert config`.
pub(crate) fn run(args: &ConfigArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let text = match &args.command {
        ConfigCommand::Reference => reference(),
        ConfigCommand::Show(args) => {
            let loaded = args.settings.load_for(args.command, workers)?;
            for warning in &loaded.warnings {
                output::print_warning(&warning.to_string());
            }
            if args.json {
                let rows = rows(args.command, &loaded).into_iter();
                let rows =
                    rows.map(|row| (row.key, json!({ "value": row.value, "source": row.source })));
                serde_json::to_string_pretty(&Value::Object(rows.collect()))? + "\n"
            } else {
                table(&rows(args.command, &loaded))
            }
        }
    };
    Ok(output::print_text(&text)?)
}

/// A setting, its value and its source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) source: String,
}

/// All settings that a command uses, with secrets masked.
pub(super) fn rows(command: Command, loaded: &Loaded) -> Vec<Row> {
    let mut rows = Vec::new();
    let general = catalogue::keys().iter().filter(|key| !key.path.contains(catalogue::ANY));
    for key in general.filter(|key| command.uses(&key.path)) {
        let path: Vec<&str> = key.path.split('.').collect();
        rows.push(row(&key.path, &loaded.merged, &path));
    }
    if command.uses("workers") {
        let Value::Object(workers) = loaded.merged.value(&["workers"]) else {
            return rows;
        };
        for (concept, own) in workers.iter().filter(|(name, _)| catalogue::is_concept(name)) {
            for (key, value) in own.as_object().into_iter().flatten() {
                let path = ["workers", concept, key];
                match value {
                    Value::Object(settings) => rows.extend(settings.keys().map(|name| {
                        let path = [path.as_slice(), &[name]].concat();
                        row(&path.join("."), &loaded.merged, &path)
                    })),
                    _ => rows.push(row(&path.join("."), &loaded.merged, &path)),
                }
            }
        }
    }
    rows
}

fn row(key: &str, merged: &Merged, path: &[&str]) -> Row {
    Row { key: key.to_owned(), value: masked(key, merged.value(path)), source: merged.origin(path) }
}

/// Endings of the names of secret settings.
const SECRETS: [&str; 4] = ["password", "secret", "token", "api_key"];
const MASK: &str = "***";

/// Masks user information in URLs, and values of secret settings.
fn masked(name: &str, value: Value) -> Value {
    match value {
        Value::String(_) if SECRETS.iter().any(|secret| name.ends_with(secret)) => MASK.into(),
        Value::String(text) => Value::String(without_user(&text)),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| masked(name, item)).collect())
        }
        Value::Object(entries) => {
            let entries = entries.into_iter();
            Value::Object(
                entries
                    .map(|(name, value)| (name.clone(), masked(&name, value)))
                    .collect::<Map<_, _>>(),
            )
        }
        value => value,
    }
}

/// The user information ends at the last `@`, because a password can contain one.
fn without_user(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{MASK}@{host}"),
        None => text.to_owned(),
    }
}

fn table(rows: &[Row]) -> String {
    let shown = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        value => value.to_string(),
    };
    let width = |column: &dyn Fn(&Row) -> String| {
        rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0)
    };
    let (keys, values) =
        (width(&|row| row.key.clone()), width(&|row| shown(&row.value)).min(VALUE_WIDTH));
    let mut text = String::new();
    for row in rows {
        text.push_str(&format!(
            "{:keys$}  {:values$}  {}\n",
            row.key,
            shown(&row.value),
            row.source
        ));
    }
    text
}

/// Maximum width of an aligned value.
const VALUE_WIDTH: usize = 44;

/// First part of `docs/configuration.md`, before the settings.
const HEAD: &str = "# Configuration

<!-- Generated by `concert config reference`; update it with
`CONCERT_BLESS=1 cargo test -p concert-tests --test configuration`. -->

A setting can come from four sources. If several have it, the first of these wins: a flag, an
environment variable, the file `concert.toml`, the default. So an environment variable wins over the
file. Tables such as `http.passthrough` are merged key by key. A process reads its settings once, at
its start; restart it after a change. There is one file: it cannot include another file, or contain
`${VARIABLE}`. To keep a password out of it, set the setting's own variable instead: for MongoDB,
`MONGODB_URI` with the whole URI, user and password included.

Concert reads `concert.toml` in the *directory of the application*. This is the current directory if
it has `concert.toml`, `concepts` or `syncs`, and otherwise the nearest directory above with a
`concert.toml`. Relative paths are relative to these directories:

| path | relative to |
|---|---|
| in the file, and defaults such as `.concert` | the directory of the application |
| in flags and variables | the current directory |
| any path, with `--config FILE` | the current directory |

- **Flags.** Common settings have their own flag; see `concert <command> --help`.
  `--set section.key=value` sets any setting.
- **Variables.** `CONCERT_<SECTION>__<KEY>`, with two underscores, such as `CONCERT_HTTP__LISTEN`.
  If no setting has this name, the variable is an error. An empty variable counts as unset.
  `CONCERT_` variables without two underscores are ignored, except the [deprecated
  names](#deprecated-names) and the variables of single flags, which `--help` shows:
  `CONCERT_HAND_OUT`, `CONCERT_NATS_ACCOUNTS` and `CONCERT_NATS_PID_FILE`. `compose.yaml` itself
  reads `CONCERT_PORT`. The deprecated `CONCERT_NATS_PORT` is ignored if its value is a URL, such as
  `tcp://10.0.0.1:4222`: Kubernetes sets it so for a service with the name `concert-nats`.
- **Values in flags and variables.** Booleans: `true`, `false`, `1`, `0`, `yes`, `no`, `on`, `off`,
  in any case. Lists: strings separated by commas, or a TOML array. Tables: a TOML inline table.
- **Standard variables.** `NATS_URL`, `NATS_CREDS`, `NATS_NKEY`, `NATS_CA`, `NATS_CERT`, `NATS_KEY`,
  `MONGODB_URI`, `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` and
  `OTEL_SDK_DISABLED` are read as well; the `CONCERT_` variable wins. Further `OTEL_` variables, for
  which there is no setting, are listed under [traces](operations.md#traces).
- **Errors.** An unknown key is an error for every command: it does not start, and proposes the most
  similar key. An invalid value is an error for the commands that use it. All errors are reported
  together. `concert config show` finds them without starting anything. In
  `workers.<Concept>.settings`, Concert checks the keys of the workers that are compiled into the
  program. A worker in another program has to check its own.

`concert config show` prints the effective values and where each comes from; `--for http-edge` shows
those of another command. [operations.md](operations.md) explains the limits.
";

/// Text before the settings of concepts.
const CONCEPTS: &str = "
A worker is compiled into the program, or runs in another process. Each key of `[workers]` can also
be set for one concept; if it is not set here, the value of `[workers]` applies.

The name of a concept in a variable is written in upper case:
`CONCERT_WORKERS__PROFILE__SETTINGS__LOGIN_WINDOW_SECONDS`. The types of a worker's own settings are
unknown here: a variable is read as a TOML value, or as a string if it is not valid TOML.

```toml
[workers.Profile.settings]
password_words = [\"reader\"]

[workers.Annotation]
external = true
```
";

/// All settings, as Markdown.
fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut section = String::new();
    for key in catalogue::keys() {
        let (of, _) = key.path.rsplit_once('.').unwrap_or_default();
        let of = of.strip_suffix(".session_cookie").unwrap_or(of);
        if of != section {
            of.clone_into(&mut section);
            page.push_str(&format!("\n## `[{of}]`\n"));
            if of.contains(catalogue::ANY) {
                page.push_str(CONCEPTS);
            }
            page.push_str(
                "\n| key | variable | default | values | unit | meaning |\n\
                 |---|---|---|---|---|---|\n",
            );
        }
        page.push_str(&line(key));
    }
    page.push_str(BUILT_IN);
    page.push_str(OLD_NAMES);
    for name in names::NAMES {
        let flag = match name.support {
            Support::Deprecated if !name.flag.is_empty() => format!("`--{}`", name.flag),
            _ => String::new(),
        };
        let variable = match name.has_standard_variable() {
            true => String::new(),
            false => format!("`{}`", name.variable),
        };
        if !(flag.is_empty() && variable.is_empty()) {
            page.push_str(&format!("| {flag} | {variable} | `{}` |\n", name.key));
        }
    }
    page
}

/// Settings of the built-in workers, which declare them themselves.
pub(super) const BUILT_IN: &str = include_str!("built_in.md");

/// Text before the deprecated names.
const OLD_NAMES: &str = "
## Deprecated names

These flags and variables of the previous version still work and print a warning. The next version
will remove them.

| flag | variable | setting |
|---|---|---|
";

fn line(key: &Key) -> String {
    let mut defaults = match &key.default {
        Value::Null => String::new(),
        value => code(value),
    };
    for command in Command::value_variants() {
        let own = command.defaults().into_iter().find(|(path, _)| *path == key.path);
        if let (Some((_, own)), Some(name)) = (own, command.to_possible_value()) {
            let separator = if defaults.is_empty() { "" } else { "; " };
            defaults.push_str(&format!("{separator}`{}`: {}", name.get_name(), code(&own)));
        }
    }
    let values = match &key.kind {
        Kind::Choice(choices) => {
            let choices = choices.iter().map(|choice| format!("`{}`", value::plain(choice)));
            choices.collect::<Vec<_>>().join(", ")
        }
        Kind::Integer { min, max } if *max == i128::from(i64::MAX) => format!("{min} or more"),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Float { min, max } => format!("{min} to {max}"),
        kind => kind.to_string(),
    };
    let (_, name) = key.path.rsplit_once('.').unwrap_or_default();
    let cells = [
        format!("`{}`", key.path),
        format!("`{}`", names::variable(&key.path)),
        defaults,
        values,
        unit(name).to_owned(),
        key.meaning.clone(),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        value => format!("`{value}`"),
    }
}

/// The unit, derived from the end of a name.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next().unwrap_or_default() {
        "ms" => "milliseconds",
        "seconds" => "seconds",
        "hours" => "hours",
        "days" => "days",
        "bytes" => "bytes",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        for (name, text, expected) in [
            ("nats.url", "nats://bob:pw@a:4222,nats://b:4222", "nats://***@a:4222,nats://b:4222"),
            ("nats.url", "nats://a:4222", "nats://a:4222"),
            ("nats.url", "bob:pw@a:4222", "***@a:4222"),
            (
                "mongodb.uri",
                "mongodb://u:p,@s@h1,h2/?replicaSet=r",
                "mongodb://***@h1,h2/?replicaSet=r",
            ),
            ("workers.Mail.settings.smtp_password", "hunter2", "***"),
            ("http.listen", "127.0.0.1:8000", "127.0.0.1:8000"),
        ] {
            assert_eq!(masked(name, text.into()), Value::from(expected), "{name}");
        }
        let nested = masked("workers.Mail.settings.smtp", json!({ "password": "hunter2" }));
        assert_eq!(nested, json!({ "password": "***" }));
    }
}
