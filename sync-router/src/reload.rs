//! Changed rule files are picked up while the router runs. Broken ones are told of, and the rules
//! stay as they are.

use std::time::Duration;

use concert_lang::Texts;
use concert_runtime::process::Shutdown;

use crate::active_rules::ActiveRules;
use crate::rules::{self, RulesArgs};

/// Looks at the files until shutdown. What differs from `seen`, and stays the same from one look to
/// the next (an editor may be writing), is put in force.
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
            Err(error) => Seen::Nothing(error.to_string()),
        };
        let is_steady = std::mem::replace(&mut before, now.clone()) == now;
        if !is_steady || now == seen {
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
                    Ok(is_news) => {
                        seen = now;
                        if is_news {
                            tracing::info!(version, "changed rules are in force");
                        }
                    }
                    // It is tried again at the next look.
                    Err(error) => tracing::warn!(%error, "changed rules are not in force yet"),
                }
            }
        }
    }
}

/// What a look at the files shows.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    Texts(Texts),
    /// They cannot be read, and why: that is told once.
    Nothing(String),
}
