//! Activates changed rule files while the router runs. Invalid files are logged, and the active
//! rules stay.

use std::sync::Arc;
use std::time::Duration;

use concert_lang::Texts;
use concert_runtime::process::Shutdown;

use crate::active_rules::ActiveRules;
use crate::rules::{self, Polled, Rules, RulesArgs};

/// Polls the files until shutdown. Activates files that differ from `seen` and are the same in two
/// consecutive polls, because an editor may be writing.
pub(crate) async fn watch(
    args: RulesArgs,
    every: Duration,
    seen: Texts,
    active_rules: ActiveRules,
    shutdown: Shutdown,
) {
    let mut polled = Polled::default();
    let mut seen = Seen::Texts(Arc::new(seen));
    let mut before = seen.clone();
    let mut waiting: Option<Waiting> = None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(every) => {}
        }
        let read = polled.read(&args);
        let now = match &read {
            Ok(texts) => Seen::Texts(texts.clone()),
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        let is_stable = std::mem::replace(&mut before, now.clone()) == now;
        if !is_stable || now == seen {
            continue;
        }
        let (rules, known) = match waiting.take() {
            Some(waiting) if waiting.seen == now => (waiting.rules, waiting.missing),
            _ => match read.and_then(|texts| rules::verify(Arc::unwrap_or_clone(texts), &args)) {
                Ok(rules) => (rules, Vec::new()),
                Err(error) => {
                    seen = now;
                    tracing::error!(
                        "the changed rules are not activated, and the active rules stay: {error}"
                    );
                    continue;
                }
            },
        };
        if args.wait_for_workers {
            let missing = active_rules.missing_workers(&rules.program).await;
            if !missing.is_empty() {
                if missing != known {
                    let why = missing.join("; ");
                    tracing::warn!("the changed rules wait, and the active rules stay: {why}");
                }
                waiting = Some(Waiting { seen: now, rules, missing });
                continue;
            }
        }
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

/// Verified rules that wait for workers.
struct Waiting {
    seen: Seen,
    rules: Rules,
    /// The reported reasons.
    missing: Vec<String>,
}

/// Result of a poll of the files.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    Texts(Arc<Texts>),
    /// The files are unreadable; the error is logged once.
    Unreadable(String),
}
