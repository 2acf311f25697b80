//! The servers, and the part of the router and of an operator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use concert_lang::spec::ConceptSpec;
use concert_runtime::blobs::Blobs;
use concert_runtime::bus::Bus;
use concert_runtime::dead::{self, StoredDeadLetter};
use concert_runtime::keys::{self, Purpose};
use concert_runtime::service::{self, Answer, NoAnswer};
use concert_runtime::{log, streams};
use concert_wire::access::User;
use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::seal::Sealer;
use concert_wire::value;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::call::{CONCEPT, Call};
use super::tap::{TIMEOUT, Tap};
use super::worker::Worker;
use crate::access;
use crate::config::{Concept, Settings};
use crate::setup::KeyFiles;
use crate::up::process::Plan;
use crate::up::servers::Servers;
use crate::up::{self, plans, servers, stack};

/// The spec of the fixture concept.
pub(super) const SPEC: &str = include_str!("Conformance.concept");
/// Attempts of an action before its isolated attempt.
pub(super) const ATTEMPTS: u32 = 2;
/// Interval between two checks for an outcome.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum size of the stored large values, and of the log, in bytes.
const STREAM_MAX_BYTES: i64 = 256 * 1024 * 1024;

/// Servers with a closed bus, and the worker under test.
pub(super) struct World {
    /// The user `setup`, in the account of the streams.
    pub(super) bus: Bus,
    /// Stores and reads large values.
    pub(super) blobs: Blobs,
    /// The worker under test.
    pub(super) worker: Worker,
    settings: Settings,
    servers: tokio::sync::Mutex<Servers>,
    /// Addresses for workers, without a tap.
    addresses: servers::Addresses,
    _dir: TempDir,
}

/// The result of an action.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The output of its completion.
    Completed(Object),
    /// Its dead letter.
    Dead(StoredDeadLetter),
}

impl World {
    /// Starts the servers and the worker.
    ///
    /// # Errors
    /// A server or the worker does not start.
    pub(super) async fn start(
        command: Vec<String>,
        cache_dir: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot create a temporary directory")?;
        let mut settings = settings(&dir, command)?;
        settings.app.cache_dir = cache_dir;
        let access = access::of(&settings, false)?;
        let keys_dir = settings.app.keys_dir();
        let created = up::prepare_keys(&settings, &access, &[])?;
        let servers = servers::start(&settings).await?;
        let addresses = servers.addresses().clone();
        let setup = stack::bus_args(&settings, &addresses, &User::Setup);
        let bus = Bus::connect_to_streams(&setup, "conform").await?;
        let purposes = Purpose::all([]);
        let keys = KeyFiles { dir: &keys_dir, purposes, created: &created, accept_new: false };
        stack::prepare_servers(&settings, &addresses, &access, &bus, &keys).await?;
        let blobs = Blobs::connect(&bus).await?;
        let worker = worker(&settings, &addresses).await?;
        let servers = tokio::sync::Mutex::new(servers);
        let world = Self { bus, blobs, worker, settings, servers, addresses, _dir: dir };
        world.worker.start(&world.bus).await?;
        Ok(world)
    }

    /// A second process of the worker, with its own tap, that does not run yet.
    ///
    /// # Errors
    /// No port is free.
    pub(super) async fn second(&self) -> anyhow::Result<Worker> {
        worker(&self.settings, &self.addresses).await
    }

    /// Starts the worker under test again.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        self.worker.start(&self.bus).await
    }

    /// Encrypts secrets with the current key.
    ///
    /// # Errors
    /// The key file cannot be read.
    pub(super) fn sealer(&self) -> anyhow::Result<Sealer> {
        Ok(Sealer::new(keys::load(&self.keys_dir(), &Purpose::Seal)?))
    }

    /// Directory of the key files.
    pub(super) fn keys_dir(&self) -> PathBuf {
        self.settings.app.keys_dir()
    }

    /// Kills the NATS server, and starts it again with the same data.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn restart_nats(&self) -> anyhow::Result<()> {
        self.servers.lock().await.restart_nats().await
    }

    /// Kills the MongoDB server, and starts it again with the same data.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn restart_mongod(&self) -> anyhow::Result<()> {
        self.servers.lock().await.restart_mongod().await
    }

    /// Starts the worker again each time it exits, until `done` has a result.
    ///
    /// # Errors
    /// Those of `done`; or the worker exits more often than this.
    pub(super) async fn restarting<T>(
        &self,
        most: usize,
        done: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let restarts = async {
            for exits in 1.. {
                self.worker.ended().await?;
                ensure!(exits <= most, "the worker exited {exits} times");
                self.restart().await?;
            }
            bail!("the worker exits again and again")
        };
        tokio::select! {
            done = done => done,
            failed = restarts => failed,
        }
    }

    /// Stops the worker and the servers.
    pub(super) async fn stop(self) {
        self.worker.kill().await;
        self.servers.into_inner().stop().await;
    }

    /// Publishes an invocation.
    ///
    /// # Errors
    /// The server does not store it.
    pub(super) async fn invoke(&self, call: &Call) -> anyhow::Result<()> {
        let body = call.body.clone().into();
        let stored = log::publish_once(&self.bus, call.subject(), call.headers(), body).await?;
        ensure!(stored == log::Published::Stored, "the invocation is still queued");
        Ok(())
    }

    /// Invokes an action, and waits for the output of its completion.
    ///
    /// # Errors
    /// It has none in time, or is dead-lettered.
    pub(super) async fn run(&self, call: &Call) -> anyhow::Result<Value> {
        self.invoke(call).await?;
        self.output(call).await
    }

    /// Waits for the output of an action's completion.
    ///
    /// # Errors
    /// It has none in time, or is dead-lettered.
    pub(super) async fn output(&self, call: &Call) -> anyhow::Result<Value> {
        match self.outcome(call).await? {
            Outcome::Completed(output) => Ok(Value::Object(output)),
            Outcome::Dead(letter) => {
                bail!("{} is dead-lettered: {}", call.action, letter.reason())
            }
        }
    }

    /// Waits for the reason of an action's dead letter.
    ///
    /// # Errors
    /// It is completed, or has no outcome in time.
    pub(super) async fn dead(&self, call: &Call) -> anyhow::Result<String> {
        match self.outcome(call).await? {
            Outcome::Completed(output) => {
                bail!("{} is completed with {}", call.action, Value::Object(output))
            }
            Outcome::Dead(letter) => Ok(letter.reason().to_owned()),
        }
    }

    /// Waits for a completion or a dead letter.
    ///
    /// # Errors
    /// It has none in time.
    pub(super) async fn outcome(&self, call: &Call) -> anyhow::Result<Outcome> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(output) = self.completed(call).await? {
                return Ok(Outcome::Completed(output));
            }
            if let Some(letter) = self.letters(call).await?.pop() {
                return Ok(Outcome::Dead(letter));
            }
            ensure!(Instant::now() < deadline, "{} has no outcome in time", call.action);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The output of an action's completion, if the log has one.
    async fn completed(&self, call: &Call) -> anyhow::Result<Option<Object>> {
        let Some(stored) = log::find(&self.bus, &call.completion()).await? else {
            return Ok(None);
        };
        let mut body = value::object(&stored.body)?;
        match body.remove("output") {
            Some(Value::Object(output)) => Ok(Some(output)),
            _ => bail!("the completion of {} has no output", call.action),
        }
    }

    /// The dead letters of an action.
    ///
    /// # Errors
    /// The server does not respond.
    pub(super) async fn letters(&self, call: &Call) -> anyhow::Result<Vec<StoredDeadLetter>> {
        let mut letters = Vec::new();
        if streams::dead_state(&self.bus).await?.0 > 0 {
            dead::each(&self.bus, format!("dead.{CONCEPT}.>"), |letter| {
                if letter.action_id() == Some(call.id) || letter.original() == call.subject() {
                    letters.push(letter);
                }
            })
            .await?;
        }
        Ok(letters)
    }

    /// Deletes the completion of an action, so that only the worker's database shows that it
    /// happened.
    ///
    /// # Errors
    /// The server does not respond.
    pub(super) async fn forget(&self, call: &Call) -> anyhow::Result<()> {
        let log = streams::existing_log(&self.bus).await?;
        log.purge().filter(call.completion()).await?;
        Ok(())
    }

    /// Sends a request to the worker's micro service: a query, or an action. `input` is an object.
    ///
    /// # Errors
    /// The worker returns an error, or does not respond.
    pub(super) async fn ask(
        &self,
        name: &str,
        flow: Option<FlowId>,
        input: &Value,
    ) -> Result<Answer, NoAnswer> {
        let input = input.as_object().cloned().unwrap_or_default();
        service::ask(&self.bus, (CONCEPT, name), flow, &input, TIMEOUT).await
    }

    /// Calls a query without a flow, as an operator does.
    ///
    /// # Errors
    /// The query fails.
    pub(super) async fn rows(&self, query: &str, input: &Value) -> anyhow::Result<Value> {
        let mut answer = self.ask(query, None, input).await?;
        answer.body.remove("rows").context("the response has no rows")
    }

    /// Checks the entries of a name.
    ///
    /// # Errors
    /// It has others.
    pub(super) async fn expect_entries(&self, name: &str, expected: &[&str]) -> anyhow::Result<()> {
        let rows = self.rows("_entries", &json!({ "name": name })).await?;
        let rows = rows.as_array().context("the rows are not an array")?.iter();
        let mut found: Vec<&str> =
            rows.filter_map(|row| row.get("entry").and_then(Value::as_str)).collect();
        found.sort_unstable();
        ensure!(found == expected, "`{name}` has the entries {found:?} instead of {expected:?}");
        Ok(())
    }
}

/// The parsed spec.
///
/// # Errors
/// Never: a test reads the spec.
pub(super) fn spec() -> anyhow::Result<ConceptSpec> {
    concert_lang::concept::parse_one("Conformance.concept", SPEC).map_err(anyhow::Error::msg)
}

/// Settings of an application in this directory, whose only concept is the fixture.
fn settings(dir: &TempDir, command: Vec<String>) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    settings.app.data_dir = dir.path().to_owned();
    settings.rules.concepts = dir.path().join("concepts");
    settings.rules.syncs = dir.path().join("syncs");
    std::fs::create_dir(&settings.rules.concepts)?;
    std::fs::create_dir(&settings.rules.syncs)?;
    std::fs::write(settings.rules.concepts.join("Conformance.concept"), SPEC)?;
    (settings.nats.port, settings.mongodb.port, settings.nats.isolate) = (0, 0, true);
    (settings.log.log_max_bytes, settings.log.large_values_max_bytes) =
        (STREAM_MAX_BYTES, STREAM_MAX_BYTES);
    let mut limits = settings.workers.clone();
    limits.worker_attempts = ATTEMPTS.into();
    let concept = Concept { command, limits, ..Concept::default() };
    settings.concepts.insert(CONCEPT.to_owned(), concept);
    Ok(settings)
}

/// A worker with the environment of `concert up`, which connects through a tap.
async fn worker(settings: &Settings, addresses: &servers::Addresses) -> anyhow::Result<Worker> {
    let tap = Tap::start(&addresses.nats_url).await?;
    let addresses = servers::Addresses { nats_url: tap.url().to_owned(), ..addresses.clone() };
    let mut plans = plans::all(settings, &addresses, Path::new(""))?;
    let plan = plans.remove(CONCEPT).context("no command")?;
    Ok(Worker::new(tap, Plan { to_stderr: true, ..plan }))
}
