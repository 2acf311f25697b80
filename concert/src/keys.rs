//! `concert keys`: lists and rotates keys while the services run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use concert_runtime::keys::{self, Purpose, Subject};
use concert_worker::Worker;
use rustix::process::{Pid, Signal, kill_process};

use crate::access::{AccessArgs, KEYS_DIR};
use crate::config::{Loaded, SettingFlags, Settings, of};
use crate::running::{self, Started};
use crate::{output, workers};

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
        /// Key file: `seal`, `edge`, a worker's key such as `session`, or a NATS user such as
        /// `nats/profile`
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
pub(crate) fn run(args: KeysArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let loaded = args.settings.load_all_and_warn(workers)?;
    let running = running_of(&loaded)?;
    let mut settings = loaded.settings;
    let dir = match &running {
        Some(running) => running.keys_dir.clone(),
        None => settings.app.keys_dir.take().unwrap_or_else(|| KEYS_DIR.into()),
    };
    settings.app.keys_dir = Some(dir.clone());
    let dir = dir.as_path();
    let changed = match &args.command {
        KeysCommand::List => return list(&args.access, &settings, workers),
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
    args.access.apply(&settings, workers, false)?;
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

/// The running system whose keys are changed; `None` if a key directory is given.
fn running_of(loaded: &Loaded) -> anyhow::Result<Option<Started>> {
    let app = &loaded.settings.app;
    match (&app.keys_dir, loaded.is_set(&["app", "data_dir"])) {
        (Some(_), _) => Ok(None),
        (None, true) => running::find(&app.data_dir).map(Some),
        (None, false) if Path::new(KEYS_DIR).is_dir() => Ok(None),
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
            "unknown keys `{keys}`; known are {}, and NATS users such as `nats/profile`",
            names.join(", ")
        );
    }
    Ok(keys)
}

fn list(access: &AccessArgs, settings: &Settings, workers: &[Worker]) -> anyhow::Result<()> {
    let access = access.current(settings)?;
    let rings = Purpose::all(workers::own_keys(workers)).into_iter().map(Subject::Ring);
    let users = access.users().into_iter().map(|user| Subject::Bus(user.name()));
    for keys in rings.chain(users) {
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

fn hang_up(pid: u32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("not a process id")?;
    Ok(kill_process(pid, Signal::HUP)?)
}
