//! Activates changed rule files while the router runs. Invalid files are logged, and the active
//! rules stay.

use std::time::Duration;

use concert_lang::Texts;
use concert_runtime::process::Shutdown;

use crate::active_rules::ActiveRules;
use crate::rules::{self, RulesArgs};

/// Polls the files until shutdown. Activates files that differ from `seen` and are the same in two
/// consecutive polls, because an editor may be writing.
pub(crate) async fn watch(
    args: RulesArgs,
    every: Duration,
    seen: Texts,
    active_rules: ActiveRules,
    shutdown: Shutdown,
) {
    let mut seen = Seen::Texts(seen);
    let mut before = seen.clone();
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(every) => {}
        }
        let read = rules::read(&args);
        let now = match &read {
            Ok(texts) => Seen::Texts(texts.clone()),
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        let is_stable = std::mem::replace(&mut before, now.clone()) == now;
        if !is_stable || now == seen {
            continue;
        }
        match read.and_then(|texts| rules::verify(texts, &args)) {
            Err(error) => {
                seen = now;
                tracing::error!(
                    "the changed rules are not activated, and the active rules stay: {error}"
                );
            }
            Ok(rules) => {
                let version = rules.program.version.clone();
                match active_rules.change(rules).await {
                    Ok(is_new) => {
                        seen = now;
                        if is_new {
                            tracing::info!(version, "changed rules are active");
                        }
                    }
                    // The next poll retries.
                    Err(error) => tracing::warn!(%error, "cannot activate changed rules; retrying"),
                }
            }
        }
    }
}

/// Result of a poll of the files.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    Texts(Texts),
    /// The files are unreadable; the error is logged once.
    Unreadable(String),
}
