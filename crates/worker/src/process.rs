//! A worker as a process of its own, with settings from the environment (`docs/wire.md`).

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use concert_runtime::address::ListenAddress;
use concert_runtime::bus::{Bus, BusArgs, ClientEnded, ConnectError};
use concert_runtime::keys;
use concert_runtime::metrics::{self, ListenError};
use concert_runtime::process::{self, Shutdown};
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::{LogArgs, LogFormat};
use serde_json::{Map, Value};

use crate::define::Worker;
use crate::start::{Options, StartError};
use crate::store::StoreArgs;
use crate::worker::{HostLimits, Running};

/// Time for actions in progress to finish at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of database connections.
const DATABASE_CONNECTIONS: u32 = 32;

/// Reason why a worker process fails.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The signal handlers cannot be installed.
    #[error(transparent)]
    Signals(#[from] std::io::Error),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ListenError),
    /// A variable has an invalid value.
    #[error("the variable {name} has the invalid value `{value}`; {expected}")]
    Variable {
        /// Name of the variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// Expected form.
        expected: &'static str,
    },
    /// NATS cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The worker does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The NATS client has stopped.
    #[error(transparent)]
    Ended(#[from] ClientEnded),
}

impl AsRef<dyn std::error::Error + Send + Sync> for ProcessError {
    fn as_ref(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }
}

/// Runs a worker until SIGTERM or SIGINT, with settings from the environment, and finishes the
/// actions in progress. A program whose `main` returns this is a worker that `concert up` starts.
#[expect(clippy::disallowed_methods, reason = "the worker protocol passes settings in variables")]
pub fn main(worker: &Worker) -> ExitCode {
    let run = async {
        let lines = LogArgs {
            filter: std::env::var("CONCERT_TELEMETRY__LOG").unwrap_or_else(|_| "info".to_owned()),
            log_format: LogFormat::Text,
        };
        let course = async {
            let (bus, options) = of_environment(worker.concept(), |name| std::env::var(name).ok())?;
            Box::pin(run(worker, &bus, options, None)).await
        };
        process::run(&lines, course).await
    };
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run),
        Err(error) => {
            process::print_error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Runs a worker until a signal stops the process, and drains it.
///
/// # Errors
/// See [`ProcessError`].
pub async fn run(
    worker: &Worker,
    bus: &BusArgs,
    options: Options,
    metrics_listen: Option<&ListenAddress>,
) -> Result<(), ProcessError> {
    let shutdown = options.shutdown.clone();
    let starting = async {
        // First, so that an address in use is reported before anything is started.
        metrics::serve(metrics_listen).await?;
        let bus = Bus::connect(bus, worker.concept()).await?;
        let running = worker.start(bus.clone(), options).await?;
        Ok::<_, ProcessError>((bus, running))
    };
    if let Some(running) = process::until_shutdown(Box::pin(starting)).await? {
        drain(running, &shutdown).await;
    }
    Ok(())
}

async fn drain(running: Running, shutdown: &Shutdown) {
    if !shutdown.drained(DRAIN_TIMEOUT).await {
        tracing::warn!(
            "shutdown timed out with actions in progress; another worker will process them"
        );
    }
    running.ended().await;
}

/// Reads the variables of the worker protocol.
fn of_environment(
    concept: &str,
    variable: impl Fn(&'static str) -> Option<String>,
) -> Result<(BusArgs, Options), ProcessError> {
    let text = |name| variable(name).filter(|text| !text.is_empty());
    let path = |name| text(name).map(PathBuf::from);
    let bus = BusArgs {
        nats_creds: path("NATS_CREDS"),
        nats_nkey: path("NATS_NKEY"),
        nats_ca: path("NATS_CA"),
        ..BusArgs::at(text("NATS_URL").unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned()))
    };
    let keys_dir = path("CONCERT_KEYS").unwrap_or_else(|| "keys".into());
    let has_user = keys::database_file(&keys_dir, &concept.to_lowercase()).exists();
    let store = StoreArgs {
        mongodb_uri: text("MONGODB_URI")
            .unwrap_or_else(|| "mongodb://127.0.0.1:27017/?directConnection=true".to_owned()),
        database_prefix: text("CONCERT_DATABASE_PREFIX").unwrap_or_else(|| "concert".to_owned()),
        database_connections: DATABASE_CONNECTIONS,
        keys_dir: has_user.then(|| keys_dir.clone()),
    };
    let (host, log) = (HostLimits::default(), LogLimits::default());
    let host = HostLimits {
        worker_concurrency: number("CONCERT_WORKERS__CONCURRENCY", text, host.worker_concurrency)?,
        worker_attempts: number("CONCERT_WORKERS__ATTEMPTS", text, host.worker_attempts)?,
        clock_skew_ms: number("CONCERT_WORKERS__CLOCK_SKEW_MS", text, host.clock_skew_ms)?,
        request_timeout_ms: number(
            "CONCERT_WORKERS__REQUEST_TIMEOUT_MS",
            text,
            host.request_timeout_ms,
        )?,
        ..host
    };
    let log = LogLimits {
        log_max_age_hours: number("CONCERT_LOG__MAX_AGE_HOURS", text, log.log_max_age_hours)?,
        ..log
    };
    let name = "CONCERT_WORKER_SETTINGS";
    let settings = match text(name) {
        None => Map::new(),
        Some(value) => serde_json::from_str(&value).map_err(|_| ProcessError::Variable {
            name,
            value,
            expected: "write a JSON object",
        })?,
    };
    let settings = Value::Object(settings);
    let shutdown = Shutdown::new();
    Ok((bus, Options { store: Some(store), keys_dir, host, log, settings, shutdown }))
}

fn number<T: FromStr>(
    name: &'static str,
    text: impl Fn(&'static str) -> Option<String>,
    default: T,
) -> Result<T, ProcessError> {
    let Some(value) = text(name) else { return Ok(default) };
    let expected = "write a whole number";
    value.parse().map_err(|_| ProcessError::Variable { name, value, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<(BusArgs, Options), ProcessError> {
        of_environment("FocusStats", |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn environment_overrides_defaults() {
        let (bus, options) = read(&[]).unwrap();
        assert_eq!((bus.nats_url.as_str(), bus.nats_nkey), ("nats://127.0.0.1:4222", None));
        assert_eq!(options.host.worker_attempts, 10);
        assert_eq!(options.settings, serde_json::json!({}));

        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mongo")).unwrap();
        std::fs::write(dir.path().join("mongo/focusstats.key"), "").unwrap();
        let (bus, options) = read(&[
            ("NATS_NKEY", "a.nk"),
            ("CONCERT_KEYS", dir.path().to_str().unwrap()),
            ("CONCERT_WORKERS__ATTEMPTS", "3"),
            ("CONCERT_LOG__MAX_AGE_HOURS", "48"),
            ("CONCERT_WORKER_SETTINGS", r#"{"a": 1}"#),
        ])
        .unwrap();
        assert_eq!(bus.nats_nkey, Some("a.nk".into()));
        assert_eq!(options.store.unwrap().keys_dir.as_deref(), Some(dir.path()));
        assert_eq!((options.host.worker_attempts, options.log.log_max_age_hours), (3, 48));
        assert_eq!(options.settings, serde_json::json!({ "a": 1 }));
    }

    #[test]
    fn invalid_variable_is_reported_with_its_value() {
        for (name, value) in
            [("CONCERT_WORKERS__ATTEMPTS", "many"), ("CONCERT_WORKER_SETTINGS", "[]")]
        {
            let error = read(&[(name, value)]).err().unwrap().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
