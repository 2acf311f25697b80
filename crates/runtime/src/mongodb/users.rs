//! MongoDB users: one for each key of a concept, with rights on the concept's database only.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use concert_wire::keyring::{Key, Keyring};
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{AuthMechanism, ClientOptions, Credential};
use mongodb::{Client, Database};

use crate::keys::{self, KeyError};

/// Timeout of the search for the server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Errors of creating users.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// A key file cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The server rejects a command.
    #[error(
        "cannot create the MongoDB users: {0}; check that the server uses the key file of the key \
         directory"
    )]
    Server(#[from] Error),
}

/// Name of the user for a key of a concept.
fn user_name(owner: &str, key: &Key) -> String {
    format!("{owner}_{}", key.id())
}

/// Credential of a key of a concept; the users of a concept are in its database.
pub(super) fn credential(database: &str, owner: &str, key: &Key) -> Credential {
    Credential::builder()
        .username(user_name(owner, key))
        .password(key.password().as_str().to_owned())
        .source(database.to_owned())
        .mechanism(AuthMechanism::ScramSha256)
        .build()
}

/// Returns whether the server rejected a credential.
pub(super) fn is_rejected(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Authentication { .. })
}

/// Creates the users of all keys of these owners (concepts in lower case, and `archive`). Deletes
/// the users of dropped keys. `server` is the credential of the server's internal user.
///
/// # Errors
/// See [`UsersError`].
pub async fn apply(
    uri: &str,
    prefix: &str,
    keys_dir: &Path,
    owners: &[String],
    server: Credential,
) -> Result<(), UsersError> {
    let mut options = ClientOptions::parse(uri).await?;
    options.credential = Some(server);
    options.server_selection_timeout = Some(TIMEOUT);
    let client = Client::with_options(options)?;
    for owner in owners {
        let keys = keys::load_database(keys_dir, owner)?;
        apply_to(&client.database(&format!("{prefix}_{owner}")), owner, &keys).await?;
    }
    client.shutdown().await;
    Ok(())
}

async fn apply_to(database: &Database, owner: &str, keys: &Keyring) -> Result<(), Error> {
    let found = database.run_command(doc! { "usersInfo": 1 }).await?;
    let users = found.get_array("users").map(Vec::as_slice).unwrap_or_default();
    let name = |user: &Bson| user.as_document()?.get_str("user").ok().map(str::to_owned);
    let ours = format!("{owner}_");
    let mut existing: BTreeSet<String> =
        users.iter().filter_map(name).filter(|name| name.starts_with(&ours)).collect();
    for key in keys.keys() {
        let name = user_name(owner, key);
        let command = if existing.remove(&name) { "updateUser" } else { "createUser" };
        let mut user = Document::new();
        user.insert(command, name);
        user.insert("pwd", key.password().as_str());
        user.insert("roles", vec![doc! { "role": "readWrite", "db": database.name() }]);
        user.insert("mechanisms", vec!["SCRAM-SHA-256"]);
        database.run_command(user).await?;
    }
    for name in existing {
        database.run_command(doc! { "dropUser": name }).await?;
    }
    Ok(())
}
