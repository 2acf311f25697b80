//! Flags of settings, standard variables, and deprecated variables.

use serde_json::{Value, json};

/// A flag, a variable, or both, for a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    /// The key that is set.
    pub(super) key: &'static str,
    /// The flag without dashes, or empty.
    pub(super) flag: &'static str,
    /// The variable, or empty.
    pub(super) variable: &'static str,
    /// Format of the text.
    pub(super) form: Form,
    /// Whether the flag is supported or deprecated.
    pub(super) support: Support,
}

/// Support of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// Deprecated; prints a warning.
    Deprecated,
    /// Supported by every command that uses the key.
    Everywhere,
    /// Supported by every command that uses the key, except `concert up`.
    InServices,
}

/// Format of the text of a flag or variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The usual format of the setting's type.
    Plain,
    /// A boolean; the flag alone means true.
    Switch,
    /// A negated boolean; the flag alone means false.
    Off,
    /// A port. Other texts are ignored: Kubernetes sets such variables to URLs.
    Port,
    /// A list of strings with a separator.
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
    support: Support,
) -> Name {
    Name { key, flag, variable, form, support }
}

use Form::{Cookie, List, Off, Passthrough, Plain, Port, Switch};
use Support::{Deprecated, Everywhere, InServices};

/// All names, in the order of the help text.
#[rustfmt::skip]
pub(super) const NAMES: &[Name] = &[
    row("app.data_dir", "data-dir", "CONCERT_DATA_DIR", Plain, Everywhere),
    row("http.listen", "listen", "CONCERT_LISTEN", Plain, Everywhere),
    row("http.base", "base", "CONCERT_BASE", Plain, Everywhere),
    row("console.enabled", "console", "", Switch, Everywhere),
    row("console.listen", "console-listen", "", Plain, Everywhere),
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
    // Deprecated flags from here on; hidden in help.
    row("telemetry.otlp_endpoint", "otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", Plain, Deprecated),
    row("telemetry.sampler", "traces-sampler", "OTEL_TRACES_SAMPLER", Plain, Deprecated),
    row("telemetry.sampler_arg", "traces-sampler-arg", "OTEL_TRACES_SAMPLER_ARG", Plain, Deprecated),
    row("telemetry.traces", "otel-sdk-disabled", "OTEL_SDK_DISABLED", Off, Deprecated),
    row("mongodb.prefix", "database-prefix", "CONCERT_DATABASE_PREFIX", Plain, Deprecated),
    row("mongodb.connections", "database-connections", "CONCERT_DATABASE_CONNECTIONS", Plain, Deprecated),
    row("http.cors_origins", "cors-origin", "CONCERT_CORS_ORIGINS", List(','), Deprecated),
    row("http.passthrough", "passthrough", "CONCERT_PASSTHROUGH", Passthrough, Deprecated),
    row("http.passthrough_except", "passthrough-except", "CONCERT_PASSTHROUGH_EXCEPT", List(';'), Deprecated),
    row("http.trusted_proxies", "trusted-proxy", "CONCERT_TRUSTED_PROXIES", List(','), Deprecated),
    row("http.forwarded_header", "forwarded-header", "CONCERT_FORWARDED_HEADER", Plain, Deprecated),
    row("http.session_cookie", "session-cookie", "CONCERT_SESSION_COOKIE", Cookie, Deprecated),
    row("http.session_cookie.ends", "session-cookie-ends", "CONCERT_SESSION_COOKIE_ENDS", List(','), Deprecated),
    row("http.body_limit_bytes", "body-limit-bytes", "CONCERT_BODY_LIMIT_BYTES", Plain, Deprecated),
    row("http.deadline_ms", "deadline-ms", "CONCERT_DEADLINE_MS", Plain, Deprecated),
    row("http.drain_delay_ms", "drain-delay-ms", "CONCERT_DRAIN_DELAY_MS", Plain, Deprecated),
    row("http.max_requests", "max-requests", "CONCERT_MAX_REQUESTS", Plain, Deprecated),
    row("http.max_requests_per_path", "max-requests-per-path", "CONCERT_MAX_REQUESTS_PER_PATH", Plain, Deprecated),
    row("http.max_wait_ms", "max-wait-ms", "CONCERT_MAX_WAIT_MS", Plain, Deprecated),
    row("http.min_requests_per_path", "min-requests-per-path", "CONCERT_MIN_REQUESTS_PER_PATH", Plain, Deprecated),
    row("http.max_connections", "max-connections", "CONCERT_MAX_CONNECTIONS", Plain, Deprecated),
    row("http.max_connections_per_client", "max-connections-per-client", "CONCERT_MAX_CONNECTIONS_PER_CLIENT", Plain, Deprecated),
    row("http.idle_timeout_ms", "idle-timeout-ms", "CONCERT_IDLE_TIMEOUT_MS", Plain, Deprecated),
    row("http.head_limit_bytes", "head-limit-bytes", "CONCERT_HEAD_LIMIT_BYTES", Plain, Deprecated),
    row("http.unread_timeout_ms", "unread-timeout-ms", "CONCERT_UNREAD_TIMEOUT_MS", Plain, Deprecated),
    row("console.enabled", "page", "CONCERT_PAGE", Switch, Deprecated),
    row("console.token_file", "page-token-file", "CONCERT_PAGE_TOKEN_FILE", Plain, Deprecated),
    row("console.listeners", "page-listeners", "CONCERT_PAGE_LISTENERS", Plain, Deprecated),
    row("console.queries", "page-queries", "CONCERT_PAGE_QUERIES", Plain, Deprecated),
    row("console.timeout_ms", "page-timeout-ms", "CONCERT_PAGE_TIMEOUT_MS", Plain, Deprecated),
    row("rules.poll_ms", "rules-poll-ms", "CONCERT_RULES_POLL_MS", Plain, Deprecated),
    row("router.flow_actions", "flow-actions", "CONCERT_FLOW_ACTIONS", Plain, Deprecated),
    row("router.flow_depth", "flow-depth", "CONCERT_FLOW_DEPTH", Plain, Deprecated),
    row("router.action_bytes", "action-bytes", "CONCERT_ACTION_BYTES", Plain, Deprecated),
    row("router.flows", "router-flows", "CONCERT_ROUTER_FLOWS", Plain, Deprecated),
    row("router.bytes", "router-bytes", "CONCERT_ROUTER_BYTES", Plain, Deprecated),
    row("router.firing_frames", "firing-frames", "CONCERT_FIRING_FRAMES", Plain, Deprecated),
    row("router.queries", "router-queries", "CONCERT_ROUTER_QUERIES", Plain, Deprecated),
    row("router.query_timeout_ms", "query-timeout-ms", "CONCERT_QUERY_TIMEOUT_MS", Plain, Deprecated),
    row("archive.days", "archive-days", "CONCERT_ARCHIVE_DAYS", Plain, Deprecated),
    row("archive.messages", "archive-messages", "CONCERT_ARCHIVE_MESSAGES", Plain, Deprecated),
    row("archive.bytes", "archive-bytes", "CONCERT_ARCHIVE_BYTES", Plain, Deprecated),
    row("archive.quiet_ms", "archive-quiet-ms", "CONCERT_ARCHIVE_QUIET_MS", Plain, Deprecated),
    row("archive.yield_seconds", "archive-yield-seconds", "CONCERT_ARCHIVE_YIELD_SECONDS", Plain, Deprecated),
    row("archive.questions", "archive-questions", "CONCERT_ARCHIVE_QUESTIONS", Plain, Deprecated),
    row("log.max_age_hours", "log-max-age-hours", "CONCERT_LOG_MAX_AGE_HOURS", Plain, Deprecated),
    row("log.max_messages", "log-max-messages", "CONCERT_LOG_MAX_MESSAGES", Plain, Deprecated),
    row("log.max_bytes", "log-max-bytes", "CONCERT_LOG_MAX_BYTES", Plain, Deprecated),
    row("log.keep_seconds", "log-keep-seconds", "CONCERT_LOG_KEEP_SECONDS", Plain, Deprecated),
    row("log.queue_max_messages", "queue-max-messages", "CONCERT_QUEUE_MAX_MESSAGES", Plain, Deprecated),
    row("log.queue_max_bytes", "queue-max-bytes", "CONCERT_QUEUE_MAX_BYTES", Plain, Deprecated),
    row("nats.replicas", "stream-replicas", "CONCERT_STREAM_REPLICAS", Plain, Deprecated),
    row("workers.concurrency", "worker-concurrency", "CONCERT_WORKER_CONCURRENCY", Plain, Deprecated),
    row("workers.attempts", "worker-attempts", "CONCERT_WORKER_ATTEMPTS", Plain, Deprecated),
    row("workers.clock_skew_ms", "clock-skew-ms", "CONCERT_CLOCK_SKEW_MS", Plain, Deprecated),
    row("workers.request_timeout_ms", "request-timeout-ms", "CONCERT_REQUEST_TIMEOUT_MS", Plain, Deprecated),
    row("workers.Profile.settings.argon2_memory_kib", "argon2-memory-kib", "CONCERT_ARGON2_MEMORY_KIB", Plain, Deprecated),
    row("workers.Profile.settings.argon2_passes", "argon2-passes", "CONCERT_ARGON2_PASSES", Plain, Deprecated),
    row("workers.Profile.settings.hash_threads", "hash-threads", "CONCERT_HASH_THREADS", Plain, Deprecated),
    row("workers.Profile.settings.hash_queue", "hash-queue", "CONCERT_HASH_QUEUE", Plain, Deprecated),
    row("workers.Profile.settings.login_account_failures", "login-account-failures", "CONCERT_LOGIN_ACCOUNT_FAILURES", Plain, Deprecated),
    row("workers.Profile.settings.login_account_failures_long", "login-account-failures-long", "CONCERT_LOGIN_ACCOUNT_FAILURES_LONG", Plain, Deprecated),
    row("workers.Profile.settings.login_client_failures", "login-client-failures", "CONCERT_LOGIN_CLIENT_FAILURES", Plain, Deprecated),
    row("workers.Profile.settings.login_window_seconds", "login-window-seconds", "CONCERT_LOGIN_WINDOW_SECONDS", Plain, Deprecated),
    row("workers.Profile.settings.login_long_window_seconds", "login-long-window-seconds", "CONCERT_LOGIN_LONG_WINDOW_SECONDS", Plain, Deprecated),
    row("workers.Profile.settings.login_known_days", "login-known-days", "CONCERT_LOGIN_KNOWN_DAYS", Plain, Deprecated),
    row("workers.Profile.settings.password_blocklists", "password-blocklist", "CONCERT_PASSWORD_BLOCKLIST", List(','), Deprecated),
    row("workers.Profile.settings.password_words", "password-word", "CONCERT_PASSWORD_WORDS", List(','), Deprecated),
    row("workers.Sessioning.settings.idle_minutes", "session-idle-minutes", "CONCERT_SESSION_IDLE_MINUTES", Plain, Deprecated),
    row("workers.Sessioning.settings.max_minutes", "session-max-minutes", "CONCERT_SESSION_MAX_MINUTES", Plain, Deprecated),
];

impl Name {
    /// Returns whether other programs use the variable, too. Such variables stay supported.
    pub(super) fn has_standard_variable(&self) -> bool {
        !self.variable.starts_with("CONCERT_")
    }
}

/// The variable of a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', SEPARATOR))
}

/// Prefix of all Concert variables.
pub(super) const PREFIX: &str = "CONCERT_";
/// Separator of section and key. A `CONCERT_` variable without it is deprecated, or no setting.
pub(super) const SEPARATOR: &str = "__";

/// Parses `name=key` to the table of the cookie.
pub(super) fn cookie(text: &str) -> Result<Value, String> {
    let (name, key) = text.split_once('=').ok_or("a cookie is written `__Host-name=key`")?;
    Ok(json!({ "name": name, "key": key }))
}

/// Parses `Concept.action=reason;…` to a table.
pub(super) fn passthrough(text: &str) -> Value {
    let listed = text.split(';').filter(|item| !item.trim().is_empty());
    let pairs = listed.map(|item| item.split_once('=').unwrap_or((item, "")));
    Value::Object(
        pairs.map(|(target, reason)| (target.trim().to_owned(), reason.trim().into())).collect(),
    )
}
