//! `concert dead`: lists, shows, retries and deletes dead letters.

mod list;
mod select;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_runtime::bus::Bus;
use concert_runtime::dead::{self, Retried, RetryError, StoredDeadLetter};
use concert_wire::envelope::{ERROR, encode};
use concert_wire::subject::CompletionSubject;

use self::select::{Filter, Selection};
use crate::operator::OperatorArgs;
use crate::output;

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
    /// List dead letters, newest last
    List {
        #[command(flatten)]
        filter: Filter,
        /// Maximum number of dead letters
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
        /// Print JSON, one dead letter per line
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter in full; secrets stay encrypted
    Show {
        /// Number of the dead letter, or ID of its action
        #[arg(value_name = "LETTER")]
        letter: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Retry actions under their own IDs, and completions. Changes in MongoDB happen once, even if an
    /// earlier attempt made them, and the flow continues
    Retry {
        #[command(flatten)]
        selection: Selection,
        /// Maximum time to wait for each result, such as 10s; 0s does not wait
        #[arg(
            long,
            default_value = "10s",
            value_parser = humantime::parse_duration,
            value_name = "TIME"
        )]
        wait: Duration,
    },
    /// Delete dead letters permanently
    Drop {
        #[command(flatten)]
        selection: Selection,
        /// Delete; without this flag, only list what would be deleted
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `concert dead`.
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
        let result = match dead::retry(bus, letter, wait).await {
            Err(RetryError::NoInvocation(subject))
                if CompletionSubject::parse(&subject).is_ok() =>
            {
                match concert_sync_router::retry(bus, &subject).await {
                    Ok(()) => {
                        dead::remove(bus, letter.seq).await?;
                        "the rules have fired on the completion".to_owned()
                    }
                    Err(error) => {
                        left += 1;
                        format!("not retried: {error}")
                    }
                }
            }
            Ok(Retried::Completed(completion)) => {
                let output = String::from_utf8_lossy(&encode(&completion.output)).into_owned();
                match completion.output.contains_key(ERROR) {
                    true => format!("completed, refused: {output}"),
                    false => format!("completed: {output}"),
                }
            }
            Ok(Retried::InProgress) => {
                "in progress; `concert dead list` shows it if it is dead-lettered again".to_owned()
            }
            Ok(Retried::DeadAgain(reason)) => {
                left += 1;
                format!("dead-lettered again: {reason}")
            }
            Err(error) => {
                left += 1;
                format!("not retried: {error}")
            }
        };
        output::print_line(format_args!("{:>6}  {}  {result}", letter.seq, letter.name()));
    }
    ensure!(
        left == 0,
        "{left} of {} are still dead letters; correct the causes above, and retry them",
        letters.len()
    );
    Ok(())
}

async fn drop_letters(bus: &Bus, letters: &[StoredDeadLetter], yes: bool) -> anyhow::Result<()> {
    for letter in letters {
        if yes {
            let dropped = dead::remove(bus, letter.seq).await;
            dropped.with_context(|| format!("cannot delete the dead letter {}", letter.seq))?;
        }
        output::print_line(format_args!(
            "{:>6}  {}  {}",
            letter.seq,
            letter.name(),
            letter.reason()
        ));
    }
    ensure!(
        yes || letters.is_empty(),
        "nothing was deleted; add --yes to delete these {} dead letters permanently",
        letters.len()
    );
    Ok(())
}
