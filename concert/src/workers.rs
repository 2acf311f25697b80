//! The workers that are compiled into the program. A new concept is one entry in [`BUILT_IN`].

mod table;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use concert_lang::program::{self, Program, Sync};
use concert_profile::ProfileArgs;
use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, Purpose};
use concert_runtime::process::Shutdown;
use concert_sessioning::SessionArgs;
use concert_wire::REQUESTING;
use concert_wire::seal::Sealer;
use concert_worker::store::{self, Retention, StoreArgs};
use concert_worker::{Concept, Running};
use futures_util::future::{BoxFuture, FutureExt as _};
use serde_json::Value;

use self::table::read;
use crate::config::Settings;

use crate::say;

/// A worker that is compiled into the program.
pub struct Worker {
    concept: &'static str,
    spec: &'static str,
    /// The keys that it reads in addition to those that open secrets.
    keys: &'static [Purpose],
    check: fn(&Value) -> Result<(), String>,
    open: Open,
}

type Open = for<'a> fn(&'a Options<'a>) -> BoxFuture<'a, anyhow::Result<Arc<Concept>>>;

/// The workers of the concepts that come with Concert.
pub const BUILT_IN: &[Worker] = &[
    Worker {
        concept: concert_profile::NAME,
        spec: concert_profile::SPEC,
        keys: &[],
        check: |settings| profile(settings).map(drop),
        open: |options| {
            async move {
                let database = store::connect(options.store, concert_profile::NAME).await?;
                Ok(concert_profile::concept(
                    &database,
                    &profile(&options.own(concert_profile::NAME)).map_err(anyhow::Error::msg)?,
                    options.retention(),
                )
                .await?)
            }
            .boxed()
        },
    },
    Worker {
        concept: concert_sessioning::NAME,
        spec: concert_sessioning::SPEC,
        keys: &[Purpose::Session],
        check: |settings| sessions(settings).map(drop),
        open: |options| {
            async move {
                let keys = keys::watch(options.keys_dir, Purpose::Session, &options.shutdown)?;
                let database = store::connect(options.store, concert_sessioning::NAME).await?;
                let sessions = sessions(&options.own(concert_sessioning::NAME)).map_err(anyhow::Error::msg)?;
                Ok(concert_sessioning::concept(&database, &sessions, keys, options.retention()).await?)
            }
            .boxed()
        },
    },
];

fn profile(settings: &Value) -> Result<ProfileArgs, String> {
    read(settings, |key| match key {
        "password_blocklists" => "password-blocklist".to_owned(),
        "password_words" => "password-word".to_owned(),
        key => key.replace('_', "-"),
    })
}

fn sessions(settings: &Value) -> Result<SessionArgs, String> {
    read(settings, |key| format!("session-{}", key.replace('_', "-")))
}

/// What a worker is started with.
pub(crate) struct Options<'a> {
    pub(crate) store: &'a StoreArgs,
    pub(crate) keys_dir: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) shutdown: Shutdown,
}

impl Options<'_> {
    fn own(&self, concept: &str) -> Value {
        self.settings.of_worker(concept)
    }

    fn retention(&self) -> Retention {
        Retention::of_log(Duration::from_secs(self.settings.log.log_max_age_hours * 3600))
    }
}

/// The program has no worker of this concept.
#[derive(Debug, thiserror::Error)]
#[error("this program has no worker of `{asked}`; it has {}", .known.join(", "))]
pub(crate) struct UnknownWorker {
    asked: String,
    known: Vec<&'static str>,
}

/// The worker of a concept, whose name may be written in any case.
pub(crate) fn named<'a>(workers: &'a [Worker], concept: &str) -> Result<&'a Worker, UnknownWorker> {
    let found = workers
        .iter()
        .find(|worker| worker.concept.eq_ignore_ascii_case(concept));
    found.ok_or_else(|| UnknownWorker {
        asked: concept.to_owned(),
        known: workers.iter().map(Worker::concept).collect(),
    })
}

/// The keys that the worker of a concept reads. A worker that is another program reads those that open secrets.
pub(crate) fn keys_of(workers: &[Worker], concept: &str) -> Vec<Purpose> {
    let own = workers.iter().find(|worker| worker.concept == concept);
    let own = own.map_or(&[][..], |worker| worker.keys);
    [&[Purpose::Seal], own].concat()
}

/// The concepts that the rules call or query and that have no worker in this program.
pub(crate) fn missing<'a>(workers: &[Worker], program: &'a Program) -> BTreeSet<&'a str> {
    let of_rule = |rule: &'a Arc<Sync>| {
        let called = rule.calls().map(|call| &*call.concept);
        called.chain(program::queries(&rule.steps).into_iter().map(|query| &*query.concept))
    };
    let used = program.syncs.iter().flat_map(of_rule);
    used.filter(|concept| *concept != REQUESTING && !workers.iter().any(|worker| worker.concept == *concept))
        .collect()
}

/// Warns of each concept that has no worker in this program, and none that `is_external`.
pub(crate) fn warn_of_missing(workers: &[Worker], program: &Program, is_external: impl Fn(&str) -> bool) {
    for concept in missing(workers, program)
        .into_iter()
        .filter(|concept| !is_external(concept))
    {
        say::warning(&format!(
            "the rules use the concept `{concept}`, and this program has no worker for it; \
             requests that need it get 504 unless another process runs one (then set `workers.{concept}.external = true`)"
        ));
    }
}

impl Worker {
    /// The name of its concept.
    pub fn concept(&self) -> &'static str {
        self.concept
    }

    /// The text of its spec.
    pub fn spec(&self) -> &'static str {
        self.spec
    }

    /// Checks its own settings, which are a table.
    pub(crate) fn check(&self, settings: &Value) -> Result<(), String> {
        (self.check)(settings)
    }

    /// Starts it. When this returns, it consumes messages.
    pub(crate) async fn start(&self, bus: Bus, options: Options<'_>) -> anyhow::Result<Running> {
        let sealer = Sealer::new(keys::watch(options.keys_dir, Purpose::Seal, &options.shutdown)?);
        let concept = (self.open)(&options).await?;
        let (host, log) = (options.settings.limits(self.concept), options.settings.log.clone());
        Ok(concert_worker::run(bus, concept, sealer, host, log, options.shutdown).await?)
    }
}

#[cfg(test)]
impl Worker {
    /// Its settings with all defaults, as text.
    pub(crate) fn shown(&self, settings: &Value) -> String {
        match self.concept {
            concert_profile::NAME => format!("{:?}", profile(settings)),
            _ => format!("{:?}", sessions(settings)),
        }
    }
}

#[cfg(test)]
mod tests {
    use concert_lang::requesting;
    use concert_lang::source::SourceFile;

    use super::*;

    #[test]
    fn each_entry_names_the_concept_of_its_spec() {
        for worker in BUILT_IN {
            let spec = concert_lang::concept::parse_one(worker.concept(), worker.spec()).unwrap();
            assert_eq!(&*spec.name, worker.concept());
        }
        assert!(!BUILT_IN.is_empty());
    }

    #[test]
    fn a_concept_that_rules_use_without_a_worker_is_missing() {
        let spec = |name: &str| {
            let text = format!(
                "concept {name}\npurpose to be used\nactions\n    act (x: Flag) : (x: Flag)\nqueries\n    _ask (x: Flag) : (y: Flag)\n"
            );
            SourceFile::new(format!("{name}.concept"), text)
        };
        let concepts = [
            SourceFile::new(requesting::FILE_NAME, requesting::SPEC),
            SourceFile::new("Profile.concept", concert_profile::SPEC),
            spec("Called"),
            spec("Queried"),
            spec("Watched"),
            spec("Unused"),
        ];
        let rules = r#"
sync Asks
when
    Requesting.request (path: "/ask", x) : (request)
where
    Queried._ask (x) : (y)
    some Profile._getUserDetails (user: "a")
then
    Requesting.respond (request, y)

sync Calls
when
    Watched.act (x)
then
    Called.act (x)
"#;
        let (program, _) = concert_lang::compile(&concepts, &[SourceFile::new("a.sync", rules)]).unwrap();
        assert_eq!(missing(BUILT_IN, &program), BTreeSet::from(["Called", "Queried"]));
    }

    #[test]
    fn a_worker_is_found_by_its_name_in_any_case() {
        for name in ["Profile", "profile", "PROFILE"] {
            assert_eq!(named(BUILT_IN, name).unwrap().concept(), "Profile");
        }
        let Err(unknown) = named(BUILT_IN, "Profil") else {
            unreachable!("there is no such concept")
        };
        assert_eq!(
            unknown.to_string(),
            "this program has no worker of `Profil`; it has Profile, Sessioning"
        );
    }

    #[test]
    fn a_worker_reads_its_own_keys_and_those_that_open_secrets() {
        assert_eq!(keys_of(BUILT_IN, "Profile"), [Purpose::Seal]);
        assert_eq!(keys_of(BUILT_IN, "Sessioning"), [Purpose::Seal, Purpose::Session]);
        assert_eq!(keys_of(BUILT_IN, "Moody"), [Purpose::Seal]);
    }
}
