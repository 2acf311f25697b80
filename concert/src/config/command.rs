//! Settings that each command uses, and defaults that only one command has.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::access::KEYS_DIR;

use super::sections::{MONGODB_URI, NATS_URL};

/// A command, or a group of commands with the same settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// `concert up`
    Up,
    /// `concert http-edge`
    HttpEdge,
    /// `concert sync-router`
    SyncRouter,
    /// `concert worker`
    Worker,
    /// `concert archive`
    Archive,
    /// `concert setup`
    Setup,
    /// `concert keys`
    Keys,
    /// Commands that talk to a running system, such as `concert flow`
    #[value(skip)]
    Operator,
    /// Commands that read rules, such as `concert check`
    #[value(skip)]
    Rules,
}

/// Connection to NATS.
const BUS: &[&str] = &["nats.url", "nats.creds", "nats.nkey", "nats.ca", "nats.cert", "nats.key"];
const STREAMS: &[&str] = &["log", "nats.replicas"];
const LINES: &[&str] = &["telemetry.log", "telemetry.log_format"];
const METRICS: &[&str] = &["telemetry.metrics_listen"];
const STORE: &[&str] = &["mongodb.uri", "mongodb.prefix", "mongodb.users", "mongodb.connections"];
const KEYS: &[&str] = &["app.data_dir", "app.keys_dir"];
const ACCESS: &[&str] = &["rules.concepts", "http.passthrough", "http.passthrough_except"];

/// Settings of the worker that an edge of release 0.1.0 contained. Its flags are still accepted.
const RELEASED_EDGE: &[&str] = &[
    "workers.concurrency",
    "workers.attempts",
    "workers.clock_skew_ms",
    "workers.request_timeout_ms",
];

/// Log filter of `concert up`, for an interactive terminal.
const UP_LOG: &str = "warn,concert_sync_router::reload=info";

macro_rules! users {
    ($($name:ident),*) => {
        $(
            #[doc = concat!("[`Command::", stringify!($name), "`], for its flags.")]
            #[derive(Debug, Clone)]
            pub struct $name;

            impl super::super::Uses for $name {
                const COMMAND: super::Command = super::Command::$name;
            }
        )*
    };
}

/// A type for each command, as the parameter of [`SettingFlags`](super::SettingFlags).
pub mod of {
    users!(Up, HttpEdge, SyncRouter, Worker, Archive, Setup, Keys, Operator, Rules);
}

impl Command {
    /// Returns whether the command uses a key.
    pub(super) fn uses(self, key: &str) -> bool {
        let lists: &[&[&str]] = match self {
            Self::Up => return true,
            Self::HttpEdge => &[BUS, STREAMS, LINES, KEYS, RELEASED_EDGE, &["http", "console"]],
            Self::SyncRouter => {
                &[BUS, STREAMS, LINES, METRICS, &["app.data_dir", "rules", "router"]]
            }
            Self::Worker => &[BUS, STREAMS, LINES, METRICS, STORE, KEYS, &["workers"]],
            Self::Archive => &[
                BUS,
                STREAMS,
                LINES,
                METRICS,
                STORE,
                KEYS,
                &[
                    "archive",
                    "telemetry.traces",
                    "telemetry.otlp_endpoint",
                    "telemetry.sampler",
                    "telemetry.sampler_arg",
                ],
            ],
            Self::Setup => &[BUS, STREAMS, STORE, KEYS, ACCESS],
            Self::Keys => &[BUS, STORE, LINES, KEYS, ACCESS],
            Self::Operator => &[BUS, KEYS],
            Self::Rules => &[&[
                "rules",
                "http.base",
                "http.refusals",
                "http.errors",
                "http.misfit_status",
                "http.headers",
            ]],
        };
        // The section `workers` is not checked, but these commands depend on who runs a worker.
        let is_of_other_program = |key: &str| {
            key.starts_with("workers.") && (key.ends_with(".external") || key.ends_with(".command"))
        };
        if matches!(self, Self::Rules | Self::Setup | Self::Keys) && is_of_other_program(key) {
            return true;
        }
        let is_of = |used: &str| {
            key.strip_prefix(used).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        lists.iter().copied().flatten().any(|used| is_of(used))
    }

    /// The defaults that differ from those of [`super::catalogue`].
    pub(super) fn defaults(self) -> Vec<(&'static str, Value)> {
        let mut defaults = match self {
            Self::Up => vec![("http.drain_delay_ms", json!(0)), ("telemetry.log", json!(UP_LOG))],
            Self::HttpEdge | Self::Worker | Self::Archive | Self::Setup => {
                vec![("app.keys_dir", json!(KEYS_DIR))]
            }
            Self::SyncRouter | Self::Keys | Self::Operator | Self::Rules => Vec::new(),
        };
        // If no server is given, `Up` starts one, and others find those of the running `Up`.
        if matches!(self, Self::Setup | Self::Keys) {
            defaults.extend([("nats.url", json!(NATS_URL)), ("mongodb.uri", json!(MONGODB_URI))]);
        }
        defaults.retain(|(key, _)| self.uses(key));
        defaults
    }
}
