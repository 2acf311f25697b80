//! `concert dead`: what was given up, and what to do about it.

mod list;
mod select;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_runtime::bus::Bus;
use concert_runtime::dead::{self, Retried, StoredDeadLetter};
use concert_wire::envelope::{ERROR, encode};

use self::select::{Filter, Selection};
use crate::operator::OperatorArgs;
use crate::say;

/// Arguments of `concert dead`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
    #[command(flatten)]
    operator: OperatorArgs,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum DeadCommand {
    /// Lists dead letters, the newest last.
    List {
        #[command(flatten)]
        filter: Filter,
        /// So many at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
        /// Prints JSON, one letter on a line.
        #[arg(long)]
        json: bool,
    },
    /// Shows one dead letter whole. Secrets stay sealed.
    Show {
        /// Its number, or the id of its action.
        #[arg(value_name = "LETTER")]
        letter: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Asks for actions again under their own ids: each is done once, whatever became of it before,
    /// and its flow goes on.
    Retry {
        #[command(flatten)]
        selection: Selection,
        /// How long to wait for what comes of each, such as 10s; 0s is not at all.
        #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
        wait: Duration,
    },
    /// Lets go of dead letters for good.
    Drop {
        #[command(flatten)]
        selection: Selection,
        /// Does it; without this it is only said what would go.
        #[arg(long)]
        yes: bool,
    },
}

/// Does what it is told.
pub(crate) async fn run(args: DeadArgs) -> anyhow::Result<()> {
    let bus = args.operator.connect("concert-dead").await?;
    match args.command {
        DeadCommand::List { filter, limit, json } => list::list(&bus, &filter, limit, json).await,
        DeadCommand::Show { letter, json } => list::show(&select::one(&bus, &letter).await?, json),
        DeadCommand::Retry { selection, wait } => {
            retry(&bus, &selection.letters(&bus).await?, wait).await
        }
        DeadCommand::Drop { selection, yes } => {
            drop_letters(&bus, &selection.letters(&bus).await?, yes).await
        }
    }
}

async fn retry(bus: &Bus, letters: &[StoredDeadLetter], wait: Duration) -> anyhow::Result<()> {
    let mut left = 0;
    for letter in letters {
        let told = match dead::retry(bus, letter, wait).await {
            Ok(Retried::Completed(completion)) => {
                let output = String::from_utf8_lossy(&encode(&completion.output)).into_owned();
                match completion.output.contains_key(ERROR) {
                    true => format!("completed, refused: {output}"),
                    false => format!("completed: {output}"),
                }
            }
            Ok(Retried::InProgress) => {
                "under way; `concert dead list` tells if it is given up again".to_owned()
            }
            Ok(Retried::DeadAgain(reason)) => {
                left += 1;
                format!("given up again: {reason}")
            }
            Err(error) => {
                left += 1;
                format!("not tried again: {error}")
            }
        };
        say::line(format_args!("{:>6}  {}  {told}", letter.seq, letter.name()));
    }
    ensure!(left == 0, "{left} of {} are still dead letters", letters.len());
    Ok(())
}

async fn drop_letters(bus: &Bus, letters: &[StoredDeadLetter], yes: bool) -> anyhow::Result<()> {
    for letter in letters {
        if yes {
            let dropped = dead::remove(bus, letter.seq).await;
            dropped.with_context(|| format!("letter {} is kept", letter.seq))?;
        }
        say::line(format_args!("{:>6}  {}  {}", letter.seq, letter.name(), letter.reason()));
    }
    ensure!(
        yes || letters.is_empty(),
        "nothing was dropped; with --yes these {} are, for good",
        letters.len()
    );
    Ok(())
}
