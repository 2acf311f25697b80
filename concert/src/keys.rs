//! `concert keys`: which keys there are, and changing them while everything runs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use concert_runtime::keys::{self, Purpose, Subject};
use concert_worker::Worker;
use rustix::process::{Pid, Signal, kill_process};

use crate::access::{AccessArgs, KEYS_DIR};
use crate::config::{Loaded, SettingFlags, Settings, of};
use crate::running::{self, Started};
use crate::{say, workers};

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
    /// Lists the keys, without their secrets.
    List,
    /// Adds a new key, which nothing uses yet.
    Add {
        /// `seal`, `edge`, a key of a worker such as `session`, or a user of the bus such as
        /// `nats/profile`.
        #[arg(value_name = "KEYS")]
        keys: Subject,
    },
    /// Uses a key for what is new. Only when every process has the key: a few seconds after it was
    /// added.
    Use {
        /// As with `add`.
        #[arg(value_name = "KEYS")]
        keys: Subject,
        /// The id of the key.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Takes a key away for good. What was made with it opens no more; a process that knows no
    /// other key is cut off.
    Drop {
        /// As with `add`.
        #[arg(value_name = "KEYS")]
        keys: Subject,
        /// The id of the key.
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Does what it is told.
pub(crate) fn run(args: KeysArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let loaded = args.settings.loaded_aloud(workers)?;
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
            say::line(format_args!("{keys} {id}"));
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
    args.access.settle(&settings, workers, false)?;
    if matches!(changed, Subject::Bus(_)) {
        match (&args.nats_pid_file, running.and_then(|running| running.nats_pid)) {
            (Some(file), _) => reload(file)?,
            (None, Some(pid)) => {
                hang_up(pid).context("the NATS server cannot be told to read its accounts again")?
            }
            (None, None) => {
                say::progress("the NATS server must read its accounts again: send it SIGHUP")
            }
        }
    }
    Ok(())
}

/// The running system whose keys are meant; nothing if a directory of keys is.
fn running_of(loaded: &Loaded) -> anyhow::Result<Option<Started>> {
    let app = &loaded.settings.app;
    match (&app.keys_dir, loaded.is_set(&["app", "data_dir"])) {
        (Some(_), _) => Ok(None),
        (None, true) => running::find(&app.data_dir).map(Some),
        (None, false) if Path::new(KEYS_DIR).is_dir() => Ok(None),
        (None, false) => running::find(&app.data_dir).map(Some).with_context(|| {
            format!("there is no directory `{KEYS_DIR}`, and --keys names no other")
        }),
    }
}

/// The keys, if this program has a worker that reads them.
fn known<'a>(keys: &'a Subject, workers: &[Worker]) -> anyhow::Result<&'a Subject> {
    let all = Purpose::all(workers::own_keys(workers));
    if let Subject::Ring(purpose) = keys
        && !all.contains(purpose)
    {
        let names: Vec<String> =
            all.iter().map(|purpose| format!("`{}`", purpose.name())).collect();
        bail!(
            "there are no keys `{keys}`; keys are {}, or those of a user of the bus such as `nats/profile`",
            names.join(", ")
        );
    }
    Ok(keys)
}

fn list(access: &AccessArgs, settings: &Settings, workers: &[Worker]) -> anyhow::Result<()> {
    let access = access.standing(settings)?;
    let rings = Purpose::all(workers::own_keys(workers)).into_iter().map(Subject::Ring);
    let users = access.users().into_iter().map(|user| Subject::Bus(user.name()));
    for keys in rings.chain(users) {
        for key in keys::list(&settings.app.keys_dir(), &keys)? {
            let used = if key.in_use { "in use" } else { "" };
            say::line(format_args!("{keys:<16} {:<58} {used}", key.id));
        }
    }
    Ok(())
}

fn reload(file: &Path) -> anyhow::Result<()> {
    let context = || {
        format!("the NATS server of {} cannot be told to read its accounts again", file.display())
    };
    let pid = std::fs::read_to_string(file).with_context(context)?;
    hang_up(pid.trim().parse().with_context(context)?).with_context(context)
}

fn hang_up(pid: u32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("it is not the id of a process")?;
    Ok(kill_process(pid, Signal::HUP)?)
}
