//! The sections of `concert.toml` that several services share. Each service defines its own
//! section.

use std::collections::BTreeMap;
use std::path::PathBuf;

use concert_archive::{ArchiveArgs, TraceArgs};
use concert_http_edge::{EdgeArgs, PageArgs};
use concert_runtime::address::ListenAddress;
use concert_runtime::bus::BusArgs;
use concert_runtime::mongodb::StoreArgs;
use concert_runtime::streams::{LogLimits, REPLICAS_MAX};
use concert_runtime::telemetry::{LogArgs, LogFormat};
use concert_sync_router::{RouterLimits, RulesArgs};
use concert_worker::HostLimits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Every setting, checked.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `[app]`
    pub app: App,
    /// `[http]`
    pub http: EdgeArgs,
    /// `[console]`
    pub console: PageArgs,
    /// `[nats]`
    pub nats: Nats,
    /// `[mongodb]`
    pub mongodb: Mongodb,
    /// `[rules]`
    pub rules: RulesArgs,
    /// `[router]`
    pub router: RouterLimits,
    /// `[archive]`
    pub archive: ArchiveArgs,
    /// `[telemetry]`
    pub telemetry: Telemetry,
    /// `[log]`
    pub log: LogLimits,
    /// `[workers]`
    pub workers: HostLimits,
    /// `[workers.<Concept>]`
    pub concepts: BTreeMap<String, Concept>,
}

/// The section `[app]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct App {
    /// Name of the application, which `concert up` prints.
    pub name: Option<String>,
    /// Directory of `concert up` for the data and logs of its servers, and for keys. Deleting it
    /// gives an empty state.
    pub data_dir: PathBuf,
    /// Directory of the key files. If it is not set, `concert up` uses `keys` in the data
    /// directory.
    pub keys_dir: Option<PathBuf>,
    /// Directory for downloaded server binaries, shared by all projects of this user; if not set,
    /// `concert` in the user's cache directory.
    pub cache_dir: Option<PathBuf>,
}

impl Default for App {
    fn default() -> Self {
        Self { name: None, data_dir: ".concert".into(), keys_dir: None, cache_dir: None }
    }
}

impl App {
    /// Directory of the key files.
    pub fn keys_dir(&self) -> PathBuf {
        self.keys_dir.clone().unwrap_or_else(|| self.data_dir.join("keys"))
    }
}

/// The section `[nats]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// URL of an existing NATS server, or several separated by commas (also `NATS_URL`).
    /// If it is not set, `concert up` starts a server. Other processes use that of the `concert up`
    /// in `app.data_dir`, or else nats://127.0.0.1:4222.
    pub url: Option<String>,
    /// NATS credentials file; without one, the URL may contain user and password.
    pub creds: Option<PathBuf>,
    /// File with the seed of this process's NATS key, as `concert setup` creates it. It is read at
    /// each connection, so the key can be rotated while the process runs.
    pub nkey: Option<PathBuf>,
    /// File with the CA certificates that must have signed the NATS server's certificate; enables
    /// TLS.
    pub ca: Option<PathBuf>,
    /// File with the client certificate for the NATS server; needs `nats.key`.
    pub cert: Option<PathBuf>,
    /// File with the private key of the client certificate; needs `nats.cert`.
    pub key: Option<PathBuf>,
    /// Port for the NATS server that `concert up` starts; 0 picks a free port.
    pub port: u16,
    /// Interval at which the NATS server of `concert up` writes to the disk (fsync), such as 1s. A
    /// power failure can lose the writes of the last interval. With `always` it loses nothing,
    /// because the server writes before each acknowledgement.
    pub sync_interval: String,
    /// Give each component of `concert up` its own NATS user and account, as separate processes
    /// have; costs about 20% of the throughput.
    pub isolate: bool,
    /// Replicas of each stream in a NATS cluster.
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub replicas: usize,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: None,
            creds: None,
            nkey: None,
            ca: None,
            cert: None,
            key: None,
            port: 4222,
            sync_interval: "1s".to_owned(),
            isolate: false,
            replicas: 1,
        }
    }
}

impl Nats {
    /// Connection parameters of the NATS server.
    pub fn bus(&self) -> BusArgs {
        BusArgs {
            nats_url: self.url.clone().unwrap_or_else(|| NATS_URL.to_owned()),
            nats_creds: self.creds.clone(),
            nats_nkey: self.nkey.clone(),
            nats_ca: self.ca.clone(),
            nats_cert: self.cert.clone(),
            nats_key: self.key.clone(),
        }
    }

    /// Checks combinations of keys.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.nkey.is_some() && self.creds.is_some() {
            return Err("nats.nkey and nats.creds exclude each other; remove one of them");
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err("nats.cert and nats.key belong together; set both or none");
        }
        Ok(())
    }
}

/// Default NATS URL of all commands except `concert up`.
pub(super) const NATS_URL: &str = "nats://127.0.0.1:4222";
/// Default MongoDB URI of all commands except `concert up`.
pub(super) const MONGODB_URI: &str = "mongodb://127.0.0.1:27017/?directConnection=true";

/// The section `[mongodb]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mongodb {
    /// URI of an existing MongoDB replica set (also `MONGODB_URI`), which may have only one member.
    /// If it is not set, `concert up` starts a server. Other processes use that of the `concert up`
    /// in `app.data_dir`, or else mongodb://127.0.0.1:27017/?directConnection=true.
    pub uri: Option<String>,
    /// Port for the MongoDB server that `concert up` starts; 0 picks a free port.
    pub port: u16,
    /// Prefix of each concept's database; `_` and the concept's name in lower case follow.
    pub prefix: String,
    /// Connect to MongoDB as a separate user for each concept. `concert setup` creates these users;
    /// their keys are in `mongo` in the key directory. `concert up` always uses them for the server
    /// that it starts.
    pub users: bool,
    /// Maximum number of database connections, for each worker.
    #[schemars(range(min = 1, max = 10_000))]
    pub connections: u32,
}

impl Default for Mongodb {
    fn default() -> Self {
        Self { uri: None, port: 27117, prefix: "concert".to_owned(), users: false, connections: 32 }
    }
}

impl Mongodb {
    /// Connection parameters of the MongoDB server, without the keys of users.
    fn store(&self) -> StoreArgs {
        StoreArgs {
            mongodb_uri: self.uri.clone().unwrap_or_else(|| MONGODB_URI.to_owned()),
            database_prefix: self.prefix.clone(),
            database_connections: self.connections,
            keys_dir: None,
        }
    }
}

/// The section `[telemetry]`. The configuration reader rejects unknown keys, because serde cannot
/// combine that with `flatten`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Telemetry {
    /// Log filter: a level (`error`, `warn`, `info`, `debug`, `trace` or `off`), or directives such
    /// as `info,concert_sync_router=debug`.
    pub log: String,
    /// Format of log lines: `text`, `pretty` or `json`.
    pub log_format: LogFormat,
    /// Address to serve `/metrics` on, such as 0.0.0.0:9100; not served if not set. The edge serves
    /// it on its own address.
    #[schemars(with = "Option<String>", extend("format" = "address"))]
    pub metrics_listen: Option<ListenAddress>,
    /// Settings for traces.
    #[serde(flatten)]
    pub traces: TraceArgs,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            metrics_listen: None,
            traces: TraceArgs::default(),
        }
    }
}

impl Telemetry {
    /// Filter and format of log lines.
    pub fn lines(&self) -> LogArgs {
        LogArgs { filter: self.log.clone(), log_format: self.log_format }
    }
}

/// A section `[workers.<Concept>]`. It may also set the keys of `[workers]` for this concept.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Concept {
    /// The worker's own settings.
    pub settings: Map<String, Value>,
    /// Command that runs the worker, in the directory of the application. `concert up` starts one
    /// process of it, and restarts it when it exits. It gets the environment variables of
    /// docs/wire.md, and few others.
    pub command: Vec<String>,
    /// Names of further environment variables that the command inherits, such as keys of services.
    pub environment: Vec<String>,
    /// Another program runs the worker, so `concert up` does not start it.
    pub external: bool,
    /// Files and directories whose changes restart the command in `concert dev`.
    pub watch: Vec<PathBuf>,
    /// The limits of this worker.
    #[serde(skip)]
    pub limits: HostLimits,
}

impl Concept {
    /// Returns whether another program runs the worker.
    pub(super) fn is_external(&self) -> bool {
        self.external || !self.command.is_empty()
    }
}

impl Settings {
    /// Connection parameters of the MongoDB server.
    pub fn store(&self) -> StoreArgs {
        StoreArgs {
            keys_dir: self.mongodb.users.then(|| self.app.keys_dir()),
            ..self.mongodb.store()
        }
    }

    /// The limits of a concept's worker.
    pub fn limits(&self, concept: &str) -> HostLimits {
        let own = self.concepts.get(concept);
        own.map_or(&self.workers, |own| &own.limits).clone()
    }

    /// A concept's own settings, as a JSON object.
    pub fn of_worker(&self, concept: &str) -> Value {
        let own = self.concepts.get(concept);
        Value::Object(own.map(|own| own.settings.clone()).unwrap_or_default())
    }

    /// Returns whether another program runs the worker of a concept.
    pub fn is_external(&self, concept: &str) -> bool {
        self.concepts.get(concept).is_some_and(Concept::is_external)
    }
}
