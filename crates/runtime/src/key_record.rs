//! Records which key files encrypted the data in NATS, so that a lost key file is not replaced by a
//! new one without notice.

use std::collections::BTreeMap;
use std::path::Path;

use concert_wire::routes::KEY_FILES_KEY;
use concert_wire::subject::BUCKET;

use crate::bus::Bus;
use crate::keys::{self, KeyError, Purpose};
use crate::streams;

/// Errors of checking the key files.
#[derive(Debug, thiserror::Error)]
pub enum KeyRecordError {
    /// A key file cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The record cannot be read or written.
    #[error("cannot read or write the record of key files in NATS: {0}; start the command again")]
    Bus(String),
    /// Key files are not those of the existing data.
    #[error(
        "the keys `{}` in {} are not those that encrypted the existing data in NATS; restore them \
         from a backup, or add --accept-new-keys; what they encrypted then stays unreadable",
        .lost.join("`, `"), .dir
    )]
    Lost {
        /// Names of the keys.
        lost: Vec<String>,
        /// Directory of the keys.
        dir: String,
    },
}

fn failed(error: impl std::fmt::Display) -> KeyRecordError {
    KeyRecordError::Bus(error.to_string())
}

/// Checks that these key files are those of the existing data, and records new ones. `created` are
/// the files that this start has created; they are deleted again if their predecessors are lost.
///
/// # Errors
/// See [`KeyRecordError`].
pub async fn check(
    bus: &Bus,
    dir: &Path,
    purposes: &[Purpose],
    created: &[Purpose],
    accept_new: bool,
) -> Result<(), KeyRecordError> {
    let store = bus.jetstream.get_key_value(BUCKET).await.map_err(failed)?;
    let recorded: BTreeMap<String, String> = match store.get(KEY_FILES_KEY).await.map_err(failed)? {
        Some(text) => serde_json::from_slice(&text).map_err(failed)?,
        None => BTreeMap::new(),
    };
    let has_data = streams::log_state(bus).await.map_err(failed)?.last_sequence > 0;
    let (mut record, mut lost) = (recorded.clone(), Vec::new());
    for purpose in purposes {
        let origin = keys::origin(dir, purpose)?;
        let is_lost = match recorded.get(purpose.name()) {
            Some(known) => *known != origin,
            // Data of a release that kept no record.
            None => recorded.is_empty() && has_data && created.contains(purpose),
        };
        if is_lost {
            lost.push(purpose);
        }
        record.insert(purpose.name().to_owned(), origin);
    }
    if !lost.is_empty() && !accept_new {
        for purpose in lost.iter().filter(|purpose| created.contains(purpose)) {
            std::fs::remove_file(dir.join(purpose.file_name())).map_err(failed)?;
        }
        let lost = lost.iter().map(|purpose| purpose.name().to_owned()).collect();
        return Err(KeyRecordError::Lost { lost, dir: dir.display().to_string() });
    }
    if record != recorded {
        let text = serde_json::to_vec(&record).map_err(failed)?;
        store.put(KEY_FILES_KEY, text.into()).await.map_err(failed)?;
    }
    Ok(())
}
