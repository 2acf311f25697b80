//! The arguments of `concert up`.

use std::path::PathBuf;

use clap::Args;
use concert_archive::ArchiveArgs;
use concert_http_edge::EdgeArgs;
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogFormat;
use concert_sync_router::{RouterLimits, RulesArgs};

use crate::running::DATA_DIR;
use crate::workers::WorkerArgs;

/// Arguments of `concert up`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept: data, logs and keys.
    #[arg(long, env = "CONCERT_DATA_DIR", default_value = DATA_DIR, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// A NATS server that is there already; without it one is started.
    #[arg(long, env = "NATS_URL", value_name = "URL")]
    pub(crate) nats_url: Option<String>,
    /// A credentials file for that server.
    #[arg(long, env = "NATS_CREDS", value_name = "FILE")]
    pub(crate) nats_creds: Option<PathBuf>,
    /// The certificates that that server's must follow from.
    #[arg(long, env = "NATS_CA", value_name = "FILE")]
    pub(crate) nats_ca: Option<PathBuf>,
    /// A MongoDB replica set that is there already; without it one is started.
    #[arg(long, env = "MONGODB_URI", value_name = "URI", hide_env_values = true)]
    pub(crate) mongodb_uri: Option<String>,
    /// The port of the NATS server that is started; 0 is any free one.
    #[arg(long, env = "CONCERT_NATS_PORT", default_value_t = 4222, value_name = "PORT")]
    pub(crate) nats_port: u16,
    /// The port of the MongoDB server that is started; 0 is any free one.
    #[arg(long, env = "CONCERT_MONGO_PORT", default_value_t = 27117, value_name = "PORT")]
    pub(crate) mongo_port: u16,
    /// How often the NATS server that is started brings its files to the disk: `always` before each acknowledgement, or an interval such as 1s, which a cut of power may cost.
    #[arg(long, env = "CONCERT_SYNC_INTERVAL", default_value = "1s", value_name = "INTERVAL")]
    pub(crate) sync_interval: String,
    /// Gives each part a user and an account of its own on the NATS server that is started, as processes of their own have. Off, since one process holds every key; it costs about a quarter of the throughput.
    #[arg(long, env = "CONCERT_ISOLATE_PARTS")]
    pub(crate) isolate_parts: bool,
    /// Where fetched servers are kept, for all projects of this user.
    #[arg(long, env = "CONCERT_CACHE", value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Where to write, as JSON, what was started; for scripts.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) started_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) edge: EdgeArgs,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
    #[command(flatten)]
    pub(crate) router: RouterLimits,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    #[command(flatten)]
    pub(crate) archive: ArchiveArgs,
    /// Starts no archive: what happened in a flow is not kept, and cannot be asked for.
    #[arg(long, env = "CONCERT_NO_ARCHIVE")]
    pub(crate) no_archive: bool,
    #[command(flatten)]
    pub(crate) log_limits: LogLimits,
    /// What to log: a level, or directives such as `info,concert_sync_router=debug`.
    #[arg(
        long,
        env = "CONCERT_LOG",
        default_value = "warn,concert_sync_router::reload=info",
        value_name = "FILTER"
    )]
    pub(crate) log: String,
    /// The form of a log line.
    #[arg(long, env = "CONCERT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

impl UpArgs {
    /// Where the keys are.
    pub(crate) fn keys_dir(&self) -> PathBuf {
        self.data_dir.join("keys")
    }
}
