//! `concert keys`: lists and rotates keys while the services run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, Purpose, Subject};
use concert_runtime::process::ShutdownSignal;
use concert_runtime::telemetry;
use concert_wire::access::User;
use concert_worker::Worker;
use rustix::process::{Pid, Signal, kill_process};

use crate::access::{self, AccessArgs, KEYS_DIR};
use crate::config::{self, Loaded, SettingFlags, Settings, of};
use crate::running::{self, Started};
use crate::{output, rotation, setup, workers};

/// Arguments of `concert keys`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    settings: SettingFlags<of::Keys>,
    /// File with the process ID of a NATS server on this machine, which is sent SIGHUP when its
    /// accounts have changed
    #[arg(long, env = "CONCERT_NATS_PID_FILE", value_name = "FILE")]
    nats_pid_file: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum KeysCommand {
    /// List the keys, without their secrets
    List,
    /// Add a new key; nothing uses it yet
    Add {
        /// Key file: `seal`, `edge`, a worker's key such as `session`, a NATS user such as
        /// `nats/profile`, or a MongoDB user such as `mongo/profile`
        #[arg(value_name = "KEYS")]
        keys: Subject,
    },
    /// Make a key the current one. Do this only when every process has read the key, a few seconds
    /// after `add`
    Use {
        /// As with `add`.
        #[arg(value_name = "KEYS")]
        keys: Subject,
        /// The id of the key.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Rotate the sealing keys: once a day, use a new key, and delete keys that the log no longer
    /// needs. Runs until it is stopped; `concert up` does this itself
    Rotate {
        /// Only execute the step that is due, and exit
        #[arg(long)]
        once: bool,
    },
    /// Delete a key permanently. Values encrypted with it become unreadable; a process that has no
    /// other key is disconnected
    Drop {
        /// As with `add`.
        #[arg(value_name = "KEYS")]
        keys: Subject,
        /// The id of the key.
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Runs `concert keys`.
pub(crate) async fn run(args: KeysArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let loaded = args.settings.load_all_and_warn(workers)?;
    let running = running_of(&loaded)?;
    let mut settings = loaded.settings;
    let dir = match &running {
        Some(running) => running.keys_dir.clone(),
        None => settings.app.keys_dir.take().unwrap_or_else(|| config::app_dir().join(KEYS_DIR)),
    };
    settings.app.keys_dir = Some(dir.clone());
    let dir = dir.as_path();
    let changed = match &args.command {
        KeysCommand::List => return list(&args.access, &settings, workers),
        KeysCommand::Rotate { once } => {
            let bus = bus(&settings, running.as_ref()).await?;
            return rotate(&args.access, &settings, workers, &bus, *once).await;
        }
        KeysCommand::Add { keys } => {
            let id = keys::add(dir, known(keys, workers)?)?;
            output::print_line(format_args!("{keys} {id}"));
            keys
        }
        KeysCommand::Use { keys, id } => {
            keys::put_first(dir, known(keys, workers)?, id)?;
            keys
        }
        KeysCommand::Drop { keys, id } => {
            keys::drop_key(dir, known(keys, workers)?, id)?;
            keys
        }
    };
    let access = args.access.apply(&settings, workers, false)?.access;
    if matches!(changed, Subject::Database(_)) {
        let uri = match &running {
            Some(running) => running.mongodb_uri.clone(),
            None => settings.store().mongodb_uri,
        };
        setup::apply_database_users(&settings, &uri, &access).await?;
    }
    if matches!(changed, Subject::Bus(_)) {
        match (&args.nats_pid_file, running.and_then(|running| running.nats_pid)) {
            (Some(file), _) => reload(file)?,
            (None, Some(pid)) => {
                hang_up(pid).context("cannot notify the NATS server of changed accounts")?
            }
            (None, None) => {
                output::print_progress("the NATS server must reload its accounts: send it SIGHUP")
            }
        }
    }
    Ok(())
}

/// Connects as the user `setup`.
async fn bus(settings: &Settings, running: Option<&Started>) -> anyhow::Result<Bus> {
    let mut bus = settings.nats.bus();
    if let Some(running) = running {
        bus.nats_url.clone_from(&running.nats_url);
    }
    if bus.nats_creds.is_none() && bus.nats_nkey.is_none() {
        bus.nats_nkey = Some(keys::seeds_path(&settings.app.keys_dir(), &User::Setup));
    }
    Ok(Bus::connect_to_streams(&bus, "concert-key-rotation").await?)
}

async fn rotate(
    access: &AccessArgs,
    settings: &Settings,
    workers: &[Worker],
    bus: &Bus,
    once: bool,
) -> anyhow::Result<()> {
    let keys_dir = settings.app.keys_dir();
    let distribute = || access.apply(settings, workers, false).map(|_| ());
    if once {
        if let Some(step) = rotation::step(bus, &keys_dir).await? {
            output::print_line(format_args!("{step:?}"));
        }
        return distribute();
    }
    telemetry::start(&settings.telemetry.lines())?;
    let mut stop = ShutdownSignal::listen()?;
    stop.unless_received(rotation::run(bus, &keys_dir, distribute)).await;
    Ok(())
}

/// The running system whose keys are changed; `None` if a key directory is given.
fn running_of(loaded: &Loaded) -> anyhow::Result<Option<Started>> {
    let app = &loaded.settings.app;
    match (&app.keys_dir, loaded.is_set(&["app", "data_dir"])) {
        (Some(_), _) => Ok(None),
        (None, true) => running::find(&app.data_dir).map(Some),
        (None, false) if config::app_dir().join(KEYS_DIR).is_dir() => Ok(None),
        (None, false) => running::find(&app.data_dir).map(Some).with_context(|| {
            format!("the directory `{KEYS_DIR}` does not exist; name another one with --keys")
        }),
    }
}

/// Checks that a worker of this program reads these keys.
fn known<'a>(keys: &'a Subject, workers: &[Worker]) -> anyhow::Result<&'a Subject> {
    let all = Purpose::all(workers::own_keys(workers));
    if let Subject::Ring(purpose) = keys
        && !all.contains(purpose)
    {
        let names: Vec<String> =
            all.iter().map(|purpose| format!("`{}`", purpose.name())).collect();
        bail!(
            "unknown keys `{keys}`; known are {}, NATS users such as `nats/profile`, and MongoDB \
             users such as `mongo/profile`",
            names.join(", ")
        );
    }
    Ok(keys)
}

fn list(access: &AccessArgs, settings: &Settings, workers: &[Worker]) -> anyhow::Result<()> {
    let access = access.current(settings)?;
    let rings = Purpose::all(workers::own_keys(workers)).into_iter().map(Subject::Ring);
    let users = access.users().into_iter().map(|user| Subject::Bus(user.name()));
    let databases = access::database_users(&access).into_iter().map(Subject::Database);
    let has_databases = keys::mongodb_server_key(&settings.app.keys_dir()).exists();
    let databases = databases.filter(|_| has_databases);
    for keys in rings.chain(users).chain(databases) {
        for key in keys::list(&settings.app.keys_dir(), &keys)? {
            let used = if key.in_use { "in use" } else { "" };
            output::print_line(format_args!("{keys:<16} {:<58} {used}", key.id));
        }
    }
    Ok(())
}

fn reload(file: &Path) -> anyhow::Result<()> {
    let context =
        || format!("cannot notify the NATS server of {} of changed accounts", file.display());
    let pid = std::fs::read_to_string(file).with_context(context)?;
    hang_up(pid.trim().parse().with_context(context)?).with_context(context)
}

pub(crate) fn hang_up(pid: u32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("not a process id")?;
    Ok(kill_process(pid, Signal::HUP)?)
}
