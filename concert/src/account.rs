//! `concert account`: disables and enables accounts of Profile, and ends their sessions.

use std::time::Duration;

use anyhow::{Context as _, bail};
use concert_runtime::bus::Bus;
use concert_runtime::service;
use concert_wire::envelope::{ERROR, Object};
use serde_json::Value;

use crate::operator::OperatorArgs;
use crate::output;

/// Timeout of an action or query.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `concert account`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AccountArgs {
    #[command(subcommand)]
    command: AccountCommand,
    #[command(flatten)]
    operator: OperatorArgs,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum AccountCommand {
    /// Disable an account, and end its sessions
    Disable(Account),
    /// Enable a disabled account
    Enable(Account),
    /// End all sessions of an account
    EndSessions(Account),
}

#[derive(Debug, Clone, clap::Args)]
struct Account {
    /// Username
    #[arg(value_name = "USERNAME")]
    username: String,
}

pub(crate) async fn run(args: AccountArgs) -> anyhow::Result<()> {
    let bus = args.operator.connect("concert-account").await?;
    match args.command {
        AccountCommand::Disable(Account { username }) => {
            let user = find(&bus, &username).await?;
            act(&bus, "Profile", "disableAccount", &user).await?;
            act(&bus, "Sessioning", "deleteAll", &user).await?;
            output::print_line(format_args!("{username} is disabled, and its sessions are ended"));
        }
        AccountCommand::Enable(Account { username }) => {
            act(&bus, "Profile", "enableAccount", &find(&bus, &username).await?).await?;
            output::print_line(format_args!("{username} is enabled"));
        }
        AccountCommand::EndSessions(Account { username }) => {
            act(&bus, "Sessioning", "deleteAll", &find(&bus, &username).await?).await?;
            output::print_line(format_args!("the sessions of {username} are ended"));
        }
    }
    Ok(())
}

/// The user with this name, as the input of an action: `{"user": …}`.
async fn find(bus: &Bus, username: &str) -> anyhow::Result<Object> {
    let input = Object::from_iter([("username".to_owned(), Value::from(username))]);
    let query = ("Profile", "_getUserByName");
    let found = service::ask(bus, query, None, &input, TIMEOUT).await;
    let found = found.context("cannot look up the account")?;
    match found.body.get("rows").and_then(Value::as_array).and_then(|rows| rows.first()) {
        Some(Value::Object(row)) => Ok(row.clone()),
        _ => bail!("account `{username}` not found; check its spelling"),
    }
}

async fn act(bus: &Bus, concept: &str, action: &str, input: &Object) -> anyhow::Result<()> {
    let done = service::ask(bus, (concept, action), None, input, TIMEOUT).await;
    let done = done.with_context(|| format!("cannot run {concept}.{action}"))?;
    match done.body.get(ERROR) {
        Some(error) => bail!("{concept}.{action} failed: {error}"),
        None => Ok(()),
    }
}
