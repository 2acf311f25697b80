//! `concert keys`: which keys there are, and changing them while everything runs.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use concert_runtime::keys::{self, Purpose, Subject};
use rustix::process::{Pid, Signal, kill_process};

use crate::access::AccessArgs;
use crate::say;
use crate::workers::Worker;

/// Arguments of `concert keys`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
    #[command(flatten)]
    access: AccessArgs,
    /// The file with the process id of a NATS server on this machine, which is made to read its accounts again when they have changed.
    #[arg(long, env = "CONCERT_NATS_PID_FILE", value_name = "FILE")]
    nats_pid_file: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum KeysCommand {
    /// Lists the keys, without their secrets.
    List,
    /// Adds a new key, which nothing uses yet.
    Add {
        /// `seal`, `session`, `edge`, or a user of the bus such as `nats/profile`.
        #[arg(value_name = "KEYS")]
        keys: Subject,
    },
    /// Uses a key for what is new. Only when every process has the key: a few seconds after it was added.
    Use {
        /// As with `add`.
        #[arg(value_name = "KEYS")]
        keys: Subject,
        /// The id of the key.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Takes a key away for good. What was made with it opens no more; a process that knows no other key is cut off.
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
    let dir = &args.access.keys.keys;
    let changed = match &args.command {
        KeysCommand::List => return list(&args),
        KeysCommand::Add { keys } => {
            let id = keys::add(dir, keys)?;
            say::line(format_args!("{keys} {id}"));
            keys
        }
        KeysCommand::Use { keys, id } => {
            keys::put_first(dir, keys, id)?;
            keys
        }
        KeysCommand::Drop { keys, id } => {
            keys::drop_key(dir, keys, id)?;
            keys
        }
    };
    args.access.settle(workers, false)?;
    if matches!(changed, Subject::Bus(_)) {
        match &args.nats_pid_file {
            Some(file) => reload(file)?,
            None => say::progress("the NATS server must read its accounts again: send it SIGHUP"),
        }
    }
    Ok(())
}

fn list(args: &KeysArgs) -> anyhow::Result<()> {
    let access = args.access.standing()?;
    let rings = Purpose::ALL.map(Subject::Ring);
    let users = access.users().into_iter().map(|user| Subject::Bus(user.name()));
    for keys in rings.into_iter().chain(users) {
        for key in keys::list(&args.access.keys.keys, &keys)? {
            let used = if key.in_use { "in use" } else { "" };
            say::line(format_args!("{keys:<16} {:<58} {used}", key.id));
        }
    }
    Ok(())
}

fn reload(file: &Path) -> anyhow::Result<()> {
    let context = || {
        format!(
            "the NATS server of {} cannot be told to read its accounts again",
            file.display()
        )
    };
    let pid = std::fs::read_to_string(file).with_context(context)?;
    let pid = Pid::from_raw(pid.trim().parse().with_context(context)?).with_context(context)?;
    kill_process(pid, Signal::HUP).with_context(context)
}
