//! The commands and their flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use concert_archive::ArchiveArgs;
use concert_http_edge::{EdgeArgs, PassthroughArgs};
use concert_runtime::bus::BusArgs;
use concert_runtime::keys::KeyArgs;
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogFormat;
use concert_sync_router::{RouterLimits, RulesArgs};
use concert_wire::name::ConceptName;
use concert_worker::store::StoreArgs;
use concert_workers::WorkerArgs;

use crate::bench::Kind;
use crate::check::CheckArgs;
use crate::dead::DeadArgs;
use crate::describe::Described;
use crate::flow::{FlowArgs, FlowsArgs, TailArgs, WhyNotArgs};
use crate::graph::Format;
use crate::keys::KeysArgs;

/// Runs concepts in concert: independent services, declarative rules, durable flows.
#[derive(Debug, Parser)]
#[command(name = "concert", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) up: UpArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts everything: NATS, MongoDB, the edge, the router and the workers. This is what `concert` alone does.
    Up(Box<UpArgs>),
    /// Measures what this machine does, beside what it could do at best.
    Bench(BenchArgs),
    /// Tells what happens to a request of a path, outcome by outcome.
    Explain(ExplainArgs),
    /// Describes the paths as OpenAPI, or the bus as AsyncAPI, on standard output.
    Describe(DescribeArgs),
    /// Draws which action leads to which through which rule, on standard output.
    Graph(GraphArgs),
    /// Tells every mistake in specs and rules, before they run.
    Check(CheckArgs),
    /// Makes what is missing: keys, the accounts of the NATS server, its streams, the replica set. For whoever does not use `concert up`.
    Setup(SetupArgs),
    /// Lists and changes keys while everything runs.
    Keys(KeysArgs),
    /// Ends with 0 when a worker, and an edge, answer. For health checks.
    Ready(ReadyArgs),
    /// Lists, shows, tries again and drops dead letters: messages that were given up.
    Dead(DeadArgs),
    /// Tells a flow as a tree: what happened, which rule caused it, how long it took, and which rules nearly fired.
    Flow(FlowArgs),
    /// Lists flows, the newest last.
    Flows(FlowsArgs),
    /// Lists flows as they happen.
    Tail(TailArgs),
    /// Tells the first thing that kept a rule from firing in a flow.
    WhyNot(WhyNotArgs),
    /// Prints completions for a shell.
    Completions(CompletionsArgs),
    /// Lays out files of rules (`*.sync`). Specs (`*.concept`) are left alone.
    Fmt(FmtArgs),
}

/// What `concert up` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept: data, logs and keys.
    #[arg(long, env = "CONCERT_DATA_DIR", default_value = ".concert", value_name = "DIR")]
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
    #[arg(long, value_name = "FILE")]
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

/// What `concert bench` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// How long each run takes, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Requests in flight.
    #[arg(long, default_values_t = [1, 16, 64], value_delimiter = ',', value_name = "N")]
    pub(crate) in_flight: Vec<usize>,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    pub(crate) only: Vec<Kind>,
    /// Measures memory over so many logouts instead.
    #[arg(long, value_name = "FLOWS")]
    pub(crate) soak: Option<u64>,
    /// As `concert up` has it.
    #[arg(long, default_value = "1s", value_name = "INTERVAL")]
    pub(crate) sync_interval: String,
    /// As `concert up` has it.
    #[arg(long)]
    pub(crate) isolate_parts: bool,
    /// As `concert up` has it.
    #[arg(long)]
    pub(crate) no_archive: bool,
    /// Prints JSON, and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
}

/// What `concert graph` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct GraphArgs {
    /// Only what a request of this path can lead to.
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// What to write it as.
    #[arg(long, value_enum, default_value_t = Format::Mermaid, value_name = "FORMAT")]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
}

/// What `concert describe` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    /// What is described.
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) what: Described,
    /// What stands before all paths.
    #[arg(long, env = "CONCERT_BASE", default_value = "/api", value_name = "PATH")]
    pub(crate) base: String,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
}

/// What `concert explain` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// The path, such as `/auth/login`, with or without what stands before all paths.
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// What stands before all paths.
    #[arg(long, env = "CONCERT_BASE", default_value = "/api", value_name = "PATH")]
    pub(crate) base: String,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
}

/// Who is on the bus.
#[derive(Debug, Clone, Args)]
pub(crate) struct AccessArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// The directory of the concept specs (`*.concept`), each of which has a user of its own on the bus.
    #[arg(long, env = "CONCERT_CONCEPTS", default_value = "concepts", value_name = "DIR")]
    pub(crate) concepts: PathBuf,
    #[command(flatten)]
    pub(crate) passthrough: PassthroughArgs,
    /// Where the accounts of the NATS server are written, for its configuration to include; `nats/accounts.conf` below the keys if it is not given.
    #[arg(long, env = "CONCERT_NATS_ACCOUNTS", value_name = "FILE")]
    pub(crate) nats_accounts: Option<PathBuf>,
    /// A directory in which each service gets a directory with a copy of the keys that it reads, and of no others.
    #[arg(long, env = "CONCERT_HAND_OUT", value_name = "DIR")]
    pub(crate) hand_out: Option<PathBuf>,
}

/// What `concert setup` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct SetupArgs {
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) log_limits: LogLimits,
    /// Makes the streams on the bus, too, as the user `setup`.
    #[arg(long)]
    pub(crate) streams: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Makes the MongoDB server a replica set of one member, which the others reach at this host and port.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) replica_host: Option<String>,
}

/// What `concert ready` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReadyArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// The data directory of `concert up`, whose operator asks if no key is given.
    #[arg(long, env = "CONCERT_DATA_DIR", default_value = ".concert", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The concept whose worker must answer.
    #[arg(long, value_name = "NAME")]
    pub(crate) concept: ConceptName,
    /// An edge that must be ready, too.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) edge: Option<SocketAddr>,
}

/// What `concert completions` is told.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Prints the completions of all commands.
pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "concert", &mut text);
    Ok(crate::say::text(&String::from_utf8(text)?)?)
}

/// What `concert fmt` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct FmtArgs {
    /// Files, and directories to search for `*.sync`; `-` reads standard input and writes standard output. What `.` hides is not searched.
    #[arg(default_value = "syncs", value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Changes nothing: tells where files are laid out otherwise, and then ends with 1.
    #[arg(long)]
    pub(crate) check: bool,
}
