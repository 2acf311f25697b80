//! Changed rule files are picked up while the router runs. Broken ones are told of, and the rules stay as they are.

use std::time::Duration;

use concert_runtime::process::Shutdown;

use crate::in_force::InForce;
use crate::rules::{self, LoadError, Rules, RulesArgs};

/// Looks at the files until shutdown. What differs from `seen`, and stays the same from one look to the next (an editor may be writing), is put in force.
pub(crate) async fn watch(args: RulesArgs, every: Duration, mut seen: String, in_force: InForce, shutdown: Shutdown) {
    let mut before = seen.clone();
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(every) => {}
        }
        let files = rules::read(&args);
        let now = fingerprint(&files);
        let is_steady = std::mem::replace(&mut before, now.clone()) == now;
        if !is_steady || now == seen {
            continue;
        }
        let changed = files.and_then(|files| rules::compile(files, &args));
        match changed {
            Err(error) => {
                seen = now;
                tracing::error!("the changed rules are broken, and those in force stay:\n{error}");
            }
            Ok(rules) => match put(&in_force, &rules).await {
                Ok(()) => seen = now,
                // It is tried again at the next look.
                Err(error) => tracing::warn!(%error, "changed rules are not in force yet"),
            },
        }
    }
}

async fn put(in_force: &InForce, rules: &Rules) -> Result<(), crate::in_force::InForceError> {
    if in_force.put(rules).await? {
        tracing::info!(version = %rules.program.version, "changed rules are in force");
    }
    Ok(())
}

/// The same for the same texts. Why files cannot be read counts as a text: it is told once.
pub(crate) fn fingerprint(files: &Result<rules::Files, LoadError>) -> String {
    match files {
        Ok((concepts, syncs)) => {
            let texts = concepts.iter().chain(syncs);
            texts.map(|file| format!("{}\0{}\0", file.name, file.text)).collect()
        }
        Err(error) => error.to_string(),
    }
}
