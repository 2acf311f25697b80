//! Converts merged values to typed settings.

use std::collections::BTreeMap;

use concert_worker::HostLimits;
use concert_worker::Worker;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::catalogue::{self, is_concept};
use super::command::Command;
use super::problem::Problem;
use super::sections::{Concept, Settings};
use super::source::{Merged, Origin};

/// Converts merged values to typed settings.
pub(super) fn typed(
    (command, workers): (Command, &[Worker]),
    merged: &Merged,
    named: &BTreeMap<String, Origin>,
    problems: &mut Vec<Problem>,
) -> Settings {
    let mut settings = Settings {
        app: section("app", merged, problems),
        http: section("http", merged, problems),
        console: section("console", merged, problems),
        nats: section("nats", merged, problems),
        mongodb: section("mongodb", merged, problems),
        rules: section("rules", merged, problems),
        router: section("router", merged, problems),
        archive: section("archive", merged, problems),
        telemetry: section("telemetry", merged, problems),
        log: section("log", merged, problems),
        ..Settings::default()
    };
    settings.log.stream_replicas = settings.nats.replicas;
    settings.console.is_concert_up = command == Command::Up;
    let together = settings.nats.check().err().map(str::to_owned);
    problems.extend(together.map(Problem::Conflict));
    let (concepts, general) = split(merged.value(&["workers"]));
    settings.workers = read(&general).unwrap_or_default();
    for (name, own) in concepts {
        let concept = concept(&name, &own, &general, merged, problems);
        if command.uses("workers") {
            let worker = workers.iter().find(|worker| worker.concept() == name);
            check_worker(command, (&name, &concept), worker, merged, problems);
            let is_started = worker.is_some() || concept.is_external();
            if command == Command::Up && !is_started {
                problems.push(no_worker(&name, workers, named.get(&name)));
            }
        }
        settings.concepts.insert(name, concept);
    }
    settings
}

/// Reads a section. On failure, each key is read separately, so that all errors are reported.
fn section<T: DeserializeOwned + Serialize + Default>(
    name: &str,
    merged: &Merged,
    problems: &mut Vec<Problem>,
) -> T {
    let value = merged.value(&[name]);
    let error = match T::deserialize(&value) {
        Ok(section) => return section,
        Err(error) => error,
    };
    let before = problems.len();
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Err(error) =
            T::deserialize(&Value::Object(Map::from_iter([(key.clone(), value.clone())])))
        {
            problems.push(Problem::BadValue {
                at: merged.origin(&[name, key]),
                key: format!("{name}.{key}"),
                message: error.to_string(),
            });
        }
    }
    if problems.len() == before {
        problems.push(Problem::Conflict(format!("[{name}]: {error}")));
    }
    T::default()
}

fn read<T: DeserializeOwned>(entries: &Map<String, Value>) -> Result<T, serde_json::Error> {
    T::deserialize(&Value::Object(entries.clone()))
}

/// Splits `[workers]` into the sections of concepts and the keys for all workers.
fn split(workers: Value) -> (BTreeMap<String, Map<String, Value>>, Map<String, Value>) {
    let (mut concepts, mut general) = (BTreeMap::new(), Map::new());
    let Value::Object(entries) = workers else {
        return (concepts, general);
    };
    for (name, value) in entries {
        match value {
            Value::Object(own) if is_concept(&name) => drop(concepts.insert(name, own)),
            value => drop(general.insert(name, value)),
        }
    }
    (concepts, general)
}

fn concept(
    name: &str,
    own: &Map<String, Value>,
    general: &Map<String, Value>,
    merged: &Merged,
    problems: &mut Vec<Problem>,
) -> Concept {
    let mut limits = general.clone();
    for (key, value) in &mut limits {
        if let Some(own) = own.get(key) {
            value.clone_from(own);
        }
    }
    let concept = read::<Concept>(own);
    let limits = read::<HostLimits>(&limits);
    for error in [concept.as_ref().err(), limits.as_ref().err()].into_iter().flatten() {
        problems.push(Problem::BadValue {
            at: merged.origin(&["workers", name]),
            key: format!("workers.{name}"),
            message: error.to_string(),
        });
    }
    Concept { limits: limits.unwrap_or_default(), ..concept.unwrap_or_default() }
}

/// Checks the settings of a worker, and keys that belong together.
fn check_worker(
    command: Command,
    (name, concept): (&str, &Concept),
    worker: Option<&Worker>,
    merged: &Merged,
    problems: &mut Vec<Problem>,
) {
    let mut bad = |key: &str, message: String| {
        problems.push(Problem::BadValue {
            at: merged.origin(&["workers", name, key]),
            key: format!("workers.{name}.{key}"),
            message,
        });
    };
    if let Some(Err(why)) =
        worker.map(|worker| worker.check_settings(&Value::Object(concept.settings.clone())))
    {
        bad("settings", why);
    }
    // `concert worker` does not start other workers.
    if command != Command::Up {
        return;
    }
    if concept.command.is_empty() {
        for (key, is_set) in
            [("watch", !concept.watch.is_empty()), ("environment", !concept.environment.is_empty())]
        {
            if is_set {
                bad(key, format!("`{key}` needs a `command`"));
            }
        }
    } else if concept.external {
        let message = "`command` and `external` exclude each other; remove one of them";
        bad("command", message.to_owned());
    }
}

fn no_worker(name: &str, workers: &[Worker], origin: Option<&Origin>) -> Problem {
    let known = workers
        .iter()
        .map(|worker| (strsim::jaro_winkler(worker.concept(), name), worker.concept()));
    let nearest = known.max_by(|(one, _), (other, _)| one.total_cmp(other));
    Problem::NoWorker {
        at: origin.cloned().unwrap_or(Origin::Default),
        concept: name.to_owned(),
        suggestion: nearest
            .filter(|(likeness, _)| *likeness >= catalogue::LIKENESS)
            .map(|(_, known)| known.to_owned()),
    }
}
