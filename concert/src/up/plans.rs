//! The programs that run the workers of `concert.toml`, and their environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use concert_wire::access::User;

use super::process::Plan;
use super::servers::Addresses;
use super::stack;
use crate::config::Settings;

/// Variables that every program inherits. Others could contain secrets of other programs.
const INHERITED: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "NVM_DIR",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

/// The programs of the concepts that have a `command`.
pub(crate) fn all(
    settings: &Settings,
    servers: &Addresses,
    dir: &Path,
) -> anyhow::Result<BTreeMap<String, Plan>> {
    let own = settings.concepts.iter().filter(|(_, own)| !own.command.is_empty());
    let plans = own.map(|(concept, own)| {
        let plan = Plan {
            label: concept.clone(),
            command: own.command.clone(),
            environment: environment(settings, servers, concept, &own.environment)?,
            dir: working(dir),
            to_stderr: false,
        };
        Ok((concept.clone(), plan))
    });
    plans.collect()
}

/// A shell command that runs with the workers, with the whole environment and the URL of the paths.
pub(super) fn companion(command: &str, api: String, dir: &Path) -> Plan {
    let api = (OsString::from("CONCERT_API"), OsString::from(api));
    Plan {
        label: "start".to_owned(),
        command: ["sh", "-c", command].map(str::to_owned).to_vec(),
        environment: std::env::vars_os().chain([api]).collect(),
        dir: working(dir),
        to_stderr: false,
    }
}

/// A directory relative to the current one, which may be empty.
fn working(dir: &Path) -> PathBuf {
    Path::new(".").join(dir)
}

/// The variables of docs/wire.md, and the variables that the program inherits.
fn environment(
    settings: &Settings,
    servers: &Addresses,
    concept: &str,
    further: &[String],
) -> anyhow::Result<BTreeMap<OsString, OsString>> {
    let inherited = INHERITED.into_iter().chain(further.iter().map(String::as_str));
    let inherited =
        inherited.filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let mut variables: BTreeMap<OsString, OsString> = inherited.collect();
    let mut set = |name: &str, value: OsString| drop(variables.insert(name.into(), value));
    let keys_dir = std::path::absolute(settings.app.keys_dir())?;
    let bus = stack::bus_args(settings, servers, &User::Worker(concept.parse()?));
    set("NATS_URL", bus.nats_url.into());
    for (name, file) in
        [("NATS_NKEY", bus.nats_nkey), ("NATS_CREDS", bus.nats_creds), ("NATS_CA", bus.nats_ca)]
    {
        if let Some(file) = file {
            set(name, std::path::absolute(file)?.into());
        }
    }
    set("MONGODB_URI", servers.mongodb_uri.clone().into());
    set("CONCERT_KEYS", keys_dir.into());
    set("CONCERT_DATABASE_PREFIX", settings.mongodb.prefix.clone().into());
    let limits = settings.limits(concept);
    for (name, value) in [
        ("CONCERT_WORKERS__CONCURRENCY", limits.worker_concurrency.to_string()),
        ("CONCERT_WORKERS__ATTEMPTS", limits.worker_attempts.to_string()),
        ("CONCERT_WORKERS__CLOCK_SKEW_MS", limits.clock_skew_ms.to_string()),
        ("CONCERT_WORKERS__REQUEST_TIMEOUT_MS", limits.request_timeout_ms.to_string()),
        ("CONCERT_LOG__MAX_AGE_HOURS", settings.log.log_max_age_hours.to_string()),
        ("CONCERT_WORKER_SETTINGS", settings.of_worker(concept).to_string()),
    ] {
        set(name, value.into());
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Concept;

    #[test]
    fn worker_gets_its_own_key_and_no_other_variables() {
        let mut settings = Settings::default();
        let own = Concept {
            command: vec!["run".to_owned()],
            environment: vec!["CARGO_PKG_NAME".to_owned()],
            ..Concept::default()
        };
        settings.concepts.insert("FocusStats".to_owned(), own);
        settings.concepts.insert("Other".to_owned(), Concept::default());
        let mut servers = Addresses {
            nats_url: "nats://127.0.0.1:1".to_owned(),
            mongodb_uri: "mongodb://127.0.0.1:2".to_owned(),
            has_own_nats: true,
            has_own_mongodb: true,
        };
        let plans = all(&settings, &servers, Path::new("")).unwrap();
        assert_eq!(plans.len(), 1);
        let plan = &plans["FocusStats"];
        let text = |name: &str| plan.environment.get(&OsString::from(name)).unwrap().to_str();
        assert!(text("NATS_NKEY").unwrap().ends_with(".concert/keys/nats/focusstats.nk"));
        assert_eq!(text("CONCERT_WORKER_SETTINGS"), Some("{}"));
        assert_eq!(text("CARGO_PKG_NAME"), Some("concert"));
        assert!(!plan.environment.contains_key(&OsString::from("CARGO_MANIFEST_DIR")));

        // An existing server does not know our users.
        servers.has_own_nats = false;
        let plans = all(&settings, &servers, Path::new("")).unwrap();
        assert!(!plans["FocusStats"].environment.contains_key(&OsString::from("NATS_NKEY")));
    }
}
