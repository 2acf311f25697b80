//! The flags of settings, and the variables of other programs and of the last version that still
//! are settings.

use serde_json::{Value, json};

/// A flag, a variable, or both, for a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    /// What is set.
    pub(super) key: &'static str,
    /// The flag, without its dashes; empty if there is none.
    pub(super) flag: &'static str,
    /// The variable; empty if there is none.
    pub(super) variable: &'static str,
    /// What the text looks like.
    pub(super) form: Form,
    /// Whether the flag stays, or is an old name.
    pub(super) stays: Stays,
}

/// Whether a flag is one of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// An old name, which warns.
    No,
    /// For every command that uses the key.
    Everywhere,
    /// The same, without `concert up`.
    InServices,
}

/// How the text of a flag or variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As the key's kind has it.
    Plain,
    /// A truth value; a flag needs none.
    Switch,
    /// The same, of the opposite.
    Off,
    /// A port, if it is a number. Kubernetes sets the variable to an URL where there is a service
    /// of that name.
    Port,
    /// Texts with a separator between them.
    List(char),
    /// `Concept.action=reason`, with `;` between several.
    Passthrough,
    /// `name=key`.
    Cookie,
}

const fn row(
    key: &'static str,
    flag: &'static str,
    variable: &'static str,
    form: Form,
    stays: Stays,
) -> Name {
    Name { key, flag, variable, form, stays }
}

use Form::{Cookie, List, Off, Passthrough, Plain, Port, Switch};
use Stays::{Everywhere, InServices, No};

/// All of them, in the order in which help shows the flags.
#[rustfmt::skip]
pub(super) const NAMES: &[Name] = &[
    row("app.data_dir", "data-dir", "CONCERT_DATA_DIR", Plain, Everywhere),
    row("http.listen", "listen", "CONCERT_LISTEN", Plain, Everywhere),
    row("http.base", "base", "CONCERT_BASE", Plain, Everywhere),
    row("console.enabled", "console", "", Switch, Everywhere),
    row("nats.url", "nats-url", "NATS_URL", Plain, Everywhere),
    row("nats.creds", "nats-creds", "NATS_CREDS", Plain, Everywhere),
    row("nats.nkey", "nats-nkey", "NATS_NKEY", Plain, InServices),
    row("nats.ca", "nats-ca", "NATS_CA", Plain, Everywhere),
    row("nats.cert", "nats-cert", "NATS_CERT", Plain, InServices),
    row("nats.key", "nats-key", "NATS_KEY", Plain, InServices),
    row("nats.port", "nats-port", "CONCERT_NATS_PORT", Port, Everywhere),
    row("nats.sync_interval", "sync-interval", "CONCERT_SYNC_INTERVAL", Plain, Everywhere),
    row("nats.isolate", "isolate-parts", "CONCERT_ISOLATE_PARTS", Switch, Everywhere),
    row("mongodb.uri", "mongodb-uri", "MONGODB_URI", Plain, Everywhere),
    row("mongodb.port", "mongo-port", "CONCERT_MONGO_PORT", Port, Everywhere),
    row("rules.concepts", "concepts", "CONCERT_CONCEPTS", Plain, Everywhere),
    row("rules.syncs", "syncs", "CONCERT_SYNCS", Plain, Everywhere),
    row("app.keys_dir", "keys", "CONCERT_KEYS", Plain, InServices),
    row("app.cache_dir", "cache-dir", "CONCERT_CACHE", Plain, Everywhere),
    row("archive.enabled", "no-archive", "CONCERT_NO_ARCHIVE", Off, Everywhere),
    row("telemetry.log", "log", "CONCERT_LOG", Plain, Everywhere),
    row("telemetry.log_format", "log-format", "CONCERT_LOG_FORMAT", Plain, Everywhere),
    row("telemetry.metrics_listen", "metrics-listen", "CONCERT_METRICS_LISTEN", Plain, InServices),
    // From here on: old flags, hidden.
    row("telemetry.otlp_endpoint", "otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", Plain, No),
    row("telemetry.sampler", "traces-sampler", "OTEL_TRACES_SAMPLER", Plain, No),
    row("telemetry.sampler_arg", "traces-sampler-arg", "OTEL_TRACES_SAMPLER_ARG", Plain, No),
    row("telemetry.traces", "otel-sdk-disabled", "OTEL_SDK_DISABLED", Off, No),
    row("mongodb.prefix", "database-prefix", "CONCERT_DATABASE_PREFIX", Plain, No),
    row("mongodb.connections", "database-connections", "CONCERT_DATABASE_CONNECTIONS", Plain, No),
    row("http.cors_origins", "cors-origin", "CONCERT_CORS_ORIGINS", List(','), No),
    row("http.passthrough", "passthrough", "CONCERT_PASSTHROUGH", Passthrough, No),
    row("http.passthrough_except", "passthrough-except", "CONCERT_PASSTHROUGH_EXCEPT", List(';'), No),
    row("http.trusted_proxies", "trusted-proxy", "CONCERT_TRUSTED_PROXIES", List(','), No),
    row("http.forwarded_header", "forwarded-header", "CONCERT_FORWARDED_HEADER", Plain, No),
    row("http.session_cookie", "session-cookie", "CONCERT_SESSION_COOKIE", Cookie, No),
    row("http.session_cookie.ends", "session-cookie-ends", "CONCERT_SESSION_COOKIE_ENDS", List(','), No),
    row("http.body_limit_bytes", "body-limit-bytes", "CONCERT_BODY_LIMIT_BYTES", Plain, No),
    row("http.deadline_ms", "deadline-ms", "CONCERT_DEADLINE_MS", Plain, No),
    row("http.drain_delay_ms", "drain-delay-ms", "CONCERT_DRAIN_DELAY_MS", Plain, No),
    row("http.max_requests", "max-requests", "CONCERT_MAX_REQUESTS", Plain, No),
    row("http.max_requests_per_path", "max-requests-per-path", "CONCERT_MAX_REQUESTS_PER_PATH", Plain, No),
    row("http.max_wait_ms", "max-wait-ms", "CONCERT_MAX_WAIT_MS", Plain, No),
    row("http.min_requests_per_path", "min-requests-per-path", "CONCERT_MIN_REQUESTS_PER_PATH", Plain, No),
    row("http.max_connections", "max-connections", "CONCERT_MAX_CONNECTIONS", Plain, No),
    row("http.max_connections_per_client", "max-connections-per-client", "CONCERT_MAX_CONNECTIONS_PER_CLIENT", Plain, No),
    row("http.idle_timeout_ms", "idle-timeout-ms", "CONCERT_IDLE_TIMEOUT_MS", Plain, No),
    row("http.head_limit_bytes", "head-limit-bytes", "CONCERT_HEAD_LIMIT_BYTES", Plain, No),
    row("http.unread_timeout_ms", "unread-timeout-ms", "CONCERT_UNREAD_TIMEOUT_MS", Plain, No),
    row("console.enabled", "page", "CONCERT_PAGE", Switch, No),
    row("console.token_file", "page-token-file", "CONCERT_PAGE_TOKEN_FILE", Plain, No),
    row("console.listeners", "page-listeners", "CONCERT_PAGE_LISTENERS", Plain, No),
    row("console.queries", "page-queries", "CONCERT_PAGE_QUERIES", Plain, No),
    row("console.timeout_ms", "page-timeout-ms", "CONCERT_PAGE_TIMEOUT_MS", Plain, No),
    row("rules.poll_ms", "rules-poll-ms", "CONCERT_RULES_POLL_MS", Plain, No),
    row("router.flow_actions", "flow-actions", "CONCERT_FLOW_ACTIONS", Plain, No),
    row("router.flow_depth", "flow-depth", "CONCERT_FLOW_DEPTH", Plain, No),
    row("router.action_bytes", "action-bytes", "CONCERT_ACTION_BYTES", Plain, No),
    row("router.flows", "router-flows", "CONCERT_ROUTER_FLOWS", Plain, No),
    row("router.bytes", "router-bytes", "CONCERT_ROUTER_BYTES", Plain, No),
    row("router.firing_frames", "firing-frames", "CONCERT_FIRING_FRAMES", Plain, No),
    row("router.queries", "router-queries", "CONCERT_ROUTER_QUERIES", Plain, No),
    row("router.query_timeout_ms", "query-timeout-ms", "CONCERT_QUERY_TIMEOUT_MS", Plain, No),
    row("archive.days", "archive-days", "CONCERT_ARCHIVE_DAYS", Plain, No),
    row("archive.messages", "archive-messages", "CONCERT_ARCHIVE_MESSAGES", Plain, No),
    row("archive.bytes", "archive-bytes", "CONCERT_ARCHIVE_BYTES", Plain, No),
    row("archive.quiet_ms", "archive-quiet-ms", "CONCERT_ARCHIVE_QUIET_MS", Plain, No),
    row("archive.yield_seconds", "archive-yield-seconds", "CONCERT_ARCHIVE_YIELD_SECONDS", Plain, No),
    row("archive.questions", "archive-questions", "CONCERT_ARCHIVE_QUESTIONS", Plain, No),
    row("log.max_age_hours", "log-max-age-hours", "CONCERT_LOG_MAX_AGE_HOURS", Plain, No),
    row("log.max_messages", "log-max-messages", "CONCERT_LOG_MAX_MESSAGES", Plain, No),
    row("log.max_bytes", "log-max-bytes", "CONCERT_LOG_MAX_BYTES", Plain, No),
    row("log.keep_seconds", "log-keep-seconds", "CONCERT_LOG_KEEP_SECONDS", Plain, No),
    row("log.queue_max_messages", "queue-max-messages", "CONCERT_QUEUE_MAX_MESSAGES", Plain, No),
    row("log.queue_max_bytes", "queue-max-bytes", "CONCERT_QUEUE_MAX_BYTES", Plain, No),
    row("nats.replicas", "stream-replicas", "CONCERT_STREAM_REPLICAS", Plain, No),
    row("workers.concurrency", "worker-concurrency", "CONCERT_WORKER_CONCURRENCY", Plain, No),
    row("workers.attempts", "worker-attempts", "CONCERT_WORKER_ATTEMPTS", Plain, No),
    row("workers.clock_skew_ms", "clock-skew-ms", "CONCERT_CLOCK_SKEW_MS", Plain, No),
    row("workers.request_timeout_ms", "request-timeout-ms", "CONCERT_REQUEST_TIMEOUT_MS", Plain, No),
    row("workers.Profile.settings.argon2_memory_kib", "argon2-memory-kib", "CONCERT_ARGON2_MEMORY_KIB", Plain, No),
    row("workers.Profile.settings.argon2_passes", "argon2-passes", "CONCERT_ARGON2_PASSES", Plain, No),
    row("workers.Profile.settings.hash_threads", "hash-threads", "CONCERT_HASH_THREADS", Plain, No),
    row("workers.Profile.settings.hash_queue", "hash-queue", "CONCERT_HASH_QUEUE", Plain, No),
    row("workers.Profile.settings.login_account_failures", "login-account-failures", "CONCERT_LOGIN_ACCOUNT_FAILURES", Plain, No),
    row("workers.Profile.settings.login_account_failures_long", "login-account-failures-long", "CONCERT_LOGIN_ACCOUNT_FAILURES_LONG", Plain, No),
    row("workers.Profile.settings.login_client_failures", "login-client-failures", "CONCERT_LOGIN_CLIENT_FAILURES", Plain, No),
    row("workers.Profile.settings.login_window_seconds", "login-window-seconds", "CONCERT_LOGIN_WINDOW_SECONDS", Plain, No),
    row("workers.Profile.settings.login_long_window_seconds", "login-long-window-seconds", "CONCERT_LOGIN_LONG_WINDOW_SECONDS", Plain, No),
    row("workers.Profile.settings.login_known_days", "login-known-days", "CONCERT_LOGIN_KNOWN_DAYS", Plain, No),
    row("workers.Profile.settings.password_blocklists", "password-blocklist", "CONCERT_PASSWORD_BLOCKLIST", List(','), No),
    row("workers.Profile.settings.password_words", "password-word", "CONCERT_PASSWORD_WORDS", List(','), No),
    row("workers.Sessioning.settings.idle_minutes", "session-idle-minutes", "CONCERT_SESSION_IDLE_MINUTES", Plain, No),
    row("workers.Sessioning.settings.max_minutes", "session-max-minutes", "CONCERT_SESSION_MAX_MINUTES", Plain, No),
];

impl Name {
    /// Whether the variable is one of other programs, too, and stays.
    pub(super) fn has_standard_variable(&self) -> bool {
        !self.variable.starts_with("CONCERT_")
    }
}

/// The variable of a key, by the one rule that there is.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', SEPARATOR))
}

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "CONCERT_";
/// What is between section and key; a variable without it is no setting, or an old one.
pub(super) const SEPARATOR: &str = "__";

/// `name=key` as the cookie's table.
pub(super) fn cookie(text: &str) -> Result<Value, String> {
    let (name, key) = text.split_once('=').ok_or("a cookie is written `__Host-name=key`")?;
    Ok(json!({ "name": name, "key": key }))
}

/// `Concept.action=reason;…` as a table.
pub(super) fn passthrough(text: &str) -> Value {
    let listed = text.split(';').filter(|item| !item.trim().is_empty());
    let pairs = listed.map(|item| item.split_once('=').unwrap_or((item, "")));
    Value::Object(
        pairs.map(|(target, reason)| (target.trim().to_owned(), reason.trim().into())).collect(),
    )
}
