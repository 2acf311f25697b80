//! Imports the accounts of another system, with their hashes of bcrypt (ADR 51).

use concert_worker::Stop;
use concert_worker::store::{Import, ImportReport};
use serde::Deserialize;

use super::{Profile, User};
use crate::bcrypt_hash;
use crate::name::Username;
use crate::settings::ConfusableNames;

/// The other system's collection.
const USERS: &str = "Profile.users";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldUser {
    #[serde(rename = "_id")]
    id: String,
    username: String,
    password_hash: String,
}

impl Profile {
    /// Accepts the names that accounts of the released version may have. Names that are equal or
    /// similar to another one are rejected, as for new accounts (ADR 35).
    pub(crate) async fn import(&self, mut import: Import) -> Result<ImportReport, Stop> {
        let mut users = import.read(USERS).await?;
        while let Some(OldUser { id, username, password_hash }) = import.next(&mut users).await? {
            if import.skips(&self.users, &id).await? {
                continue;
            }
            let username = import.renamed(&id).unwrap_or(&username).to_owned();
            let Ok(name) = Username::parse(&username) else {
                import.reject(USERS, &id, format!("{username:?} is no usable name"));
                continue;
            };
            if bcrypt_hash::cost(&password_hash).is_none() {
                import.reject(USERS, &id, "its password is no usable hash of bcrypt");
                continue;
            }
            let mut user = User::new(&name, password_hash, self.confusable_names);
            if let Some(other) = self.similar(&import, &name).await? {
                if self.confusable_names == ConfusableNames::Refuse {
                    let why = format!("{username:?} is the name of {other}, or similar to it");
                    import.reject(USERS, &id, why);
                    continue;
                }
                import.note(&self.users, &id, format!("{username:?} is similar to {other}"));
                user.name_look = None;
            }
            import.add_new(&self.users, &id, &user).await?;
        }
        Ok(import.finished())
    }

    /// The account that has a similar name, as [`Profile::look_alike`] compares them.
    async fn similar(&self, import: &Import, name: &Username) -> Result<Option<String>, Stop> {
        if self.confusable_names == ConfusableNames::Allow {
            return Ok(None);
        }
        let folded = import.holder(&self.users, "name_fold", &name.look).await?;
        Ok(folded.or(import.holder(&self.users, "name_look", &name.look).await?))
    }
}

#[cfg(test)]
mod tests;
