//! Connection details of a running `concert up`, in a file of its data directory, for other
//! commands.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow, ensure};
use concert_local_servers::Program;
use concert_runtime::{atomic_file, keys};
use concert_wire::access::User;
use concert_worker::store::StoreArgs;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::config::{Loaded, Settings};

/// Name of the file in the data directory. Only its owner can read it, because URLs can contain
/// passwords.
const FILE: &str = "running.json";

/// A running `concert up` and its servers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// Process id of `concert up`.
    pub pid: u32,
    /// Address of the edge.
    pub http: SocketAddr,
    /// Address of the console, if it is on.
    #[serde(default)]
    pub console: Option<SocketAddr>,
    /// URL of the NATS server.
    pub nats_url: String,
    /// Process id of the NATS server, if it was started here.
    pub nats_pid: Option<u32>,
    /// Path of the NATS server binary, if it was started here.
    pub nats_server: PathBuf,
    /// Credentials file of an existing NATS server.
    pub nats_creds: Option<PathBuf>,
    /// CA certificates of an existing NATS server.
    pub nats_ca: Option<PathBuf>,
    /// URI of the MongoDB server.
    pub mongodb_uri: String,
    /// Process id of the MongoDB server, if it was started here.
    pub mongod_pid: Option<u32>,
    /// Directory of the key files.
    pub keys_dir: PathBuf,
}

/// The files that describe a running system. They exist from [`Announcement::publish`] until this
/// is dropped.
pub(crate) struct Announcement {
    content: Mutex<Content>,
    files: Vec<PathBuf>,
}

struct Content {
    started: Started,
    is_published: bool,
}

impl Announcement {
    /// Announces the system in the data directory, and optionally in another file for scripts.
    pub(crate) fn new(started: Started, data_dir: &Path, further: Option<PathBuf>) -> Self {
        Self {
            content: Mutex::new(Content { started, is_published: false }),
            files: further.into_iter().chain([data_dir.join(FILE)]).collect(),
        }
    }

    /// Writes the files. Call it when requests are answered.
    pub(crate) fn publish(&self) -> anyhow::Result<()> {
        self.change(|content| content.is_published = true)
    }

    /// Updates the process id of a restarted server.
    pub(crate) fn restarted(&self, program: Program, pid: u32) -> anyhow::Result<()> {
        self.change(|content| match program {
            Program::NatsServer => content.started.nats_pid = Some(pid),
            Program::Mongod => content.started.mongod_pid = Some(pid),
        })
    }

    /// Process id of the NATS server, if it was started here.
    pub(crate) fn nats_pid(&self) -> Option<u32> {
        self.lock().started.nats_pid
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> anyhow::Result<()> {
        let mut content = self.lock();
        change(&mut content);
        if !content.is_published {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&content.started)?;
        for file in &self.files {
            atomic_file::replace(file, &text)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if !self.lock().is_published {
            return;
        }
        for file in &self.files {
            if let Err(error) = fs::remove_file(file) {
                tracing::debug!(%error, file = %file.display(), "the file no longer exists");
            }
        }
    }
}

/// The `concert up` that runs in a data directory; an error if there is none.
pub(crate) fn find(data_dir: &Path) -> anyhow::Result<Started> {
    find_any(data_dir)?.ok_or_else(|| not_running(data_dir))
}

fn find_any(data_dir: &Path) -> anyhow::Result<Option<Started>> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let started: Started = serde_json::from_str(&text).with_context(|| {
        format!("{} was written by another version of concert; use that version", path.display())
    })?;
    // A killed process leaves its file.
    Ok(is_alive(started.pid).then_some(started))
}

/// Completes the settings of a service. If no NATS server is configured and `concert up` runs, the
/// service joins that system, as `user`.
///
/// # Errors
/// The running system has no such user.
pub(crate) fn join(loaded: &mut Loaded, user: &User) -> anyhow::Result<()> {
    let has_keys = loaded.is_set(&["app", "keys_dir"]);
    let settings = &mut loaded.settings;
    if settings.nats.url.is_some() {
        return Ok(());
    }
    let Some(mut started) = find_any(&settings.app.data_dir)? else { return Ok(()) };
    if has_keys {
        started.keys_dir = settings.app.keys_dir();
    }
    started.complete(settings);
    if started.nats_pid.is_some() && settings.nats.nkey.is_none() {
        let key = keys::seeds_path(&started.keys_dir, user);
        let (name, setting) = match user {
            User::Worker(concept) => (user.name(), format!("workers.{concept}.external = true")),
            _ => (user.name(), "nats.isolate = true".to_owned()),
        };
        ensure!(
            key.exists(),
            "the running `concert up` has no NATS user `{name}`; set {setting}, and restart it"
        );
        settings.nats.nkey = Some(key);
    }
    Ok(())
}

/// Settings of the database of the running system, unless one is configured.
pub(crate) fn store(mut settings: Settings) -> anyhow::Result<StoreArgs> {
    if settings.mongodb.uri.is_none() {
        find(&settings.app.data_dir)?.complete(&mut settings);
    }
    Ok(settings.store())
}

impl Started {
    /// Sets the servers that are not configured, and the keys.
    pub(crate) fn complete(&self, settings: &mut Settings) {
        let Settings { app, nats, mongodb, .. } = settings;
        app.keys_dir = Some(self.keys_dir.clone());
        if nats.url.is_none() {
            nats.url = Some(self.nats_url.clone());
            nats.ca = nats.ca.take().or_else(|| self.nats_ca.clone());
            if nats.nkey.is_none() {
                nats.creds = nats.creds.take().or_else(|| self.nats_creds.clone());
            }
        }
        if mongodb.uri.is_none() {
            mongodb.uri = Some(self.mongodb_uri.clone());
            // The MongoDB server of `concert up` has users.
            mongodb.users |= self.mongod_pid.is_some();
        }
    }
}

/// The error of a command that needs a running system.
pub(crate) fn not_running(data_dir: &Path) -> anyhow::Error {
    anyhow!(
        "no running system in {}: is `concert up` running in this directory? If it runs elsewhere, \
         name its data directory with --data-dir",
        data_dir.display()
    )
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| match test_kill_process(pid) {
        Ok(()) => true,
        Err(error) => error == rustix::io::Errno::PERM,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(pid: u32) -> Started {
        Started {
            pid,
            http: ([127, 0, 0, 1], 8000).into(),
            console: Some(([127, 0, 0, 1], 8001).into()),
            nats_url: "nats://127.0.0.1:4222".to_owned(),
            nats_pid: Some(2),
            nats_server: PathBuf::new(),
            nats_creds: None,
            nats_ca: None,
            mongodb_uri: "mongodb://ada:secret@127.0.0.1".to_owned(),
            mongod_pid: Some(3),
            keys_dir: "keys".into(),
        }
    }

    #[test]
    fn running_system_is_found_until_it_stops() {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy.json");
        let announcement =
            Announcement::new(started(std::process::id()), dir.path(), Some(copy.clone()));
        announcement.restarted(Program::Mongod, 4).unwrap();
        assert!(find(dir.path()).is_err());
        announcement.publish().unwrap();
        let found = find(dir.path()).unwrap();
        assert_eq!((found.nats_pid, found.mongod_pid), (Some(2), Some(4)));
        assert_eq!(fs::read(&copy).unwrap(), fs::read(dir.path().join("running.json")).unwrap());
        #[cfg(unix)]
        {
            let mode = fs::metadata(dir.path().join("running.json")).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        }
        drop(announcement);
        assert!(!copy.exists());
        let error = find(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("is `concert up` running in this directory?")
                && error.contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn file_of_a_killed_process_is_ignored() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let left = Announcement::new(started(child.id()), dir.path(), None);
        left.publish().unwrap();
        child.wait().unwrap();
        let error = find(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is `concert up` running"), "{error}");
    }

    #[test]
    fn unreadable_file_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("running.json"), "{}").unwrap();
        let error = find(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }
}
