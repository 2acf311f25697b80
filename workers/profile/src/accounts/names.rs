//! Accounts by their names.
//!
//! An account has three unique forms of its name, so that the database decides which of two
//! concurrent actions gets a name: `name_key` of the released version, `name_fold` for all
//! spellings of a name, and `name_look` for names that look alike.

use concert_worker::Stop;
use concert_worker::store::{Bson, Documents, Found, Page};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Profile, User};
use crate::name::Username;
use crate::settings::ConfusableNames;

/// Accounts in one read.
const BATCH: usize = 1000;
/// Concurrent writes.
const WRITES: usize = 64;

impl User {
    pub(super) fn new(name: &Username, password: String, confusable: ConfusableNames) -> Self {
        let has_look = confusable != ConfusableNames::Allow;
        Self {
            username: name.as_str().to_owned(),
            name_key: name.key.clone(),
            name_fold: Some(name.folded.clone()),
            name_look: has_look.then(|| name.look.clone()),
            password,
            disabled: false,
        }
    }
}

impl Profile {
    /// The account with this name. If accounts of the released version have two spellings of one
    /// name, each is found by its own.
    pub(super) async fn by_name(&self, name: &Username) -> Result<Option<Found<User>>, Stop> {
        self.users.find_first(&[("name_key", &name.key), ("name_fold", &name.folded)]).await
    }

    /// The account of a name that looks like this one, unless the settings allow that.
    pub(super) async fn look_alike(&self, name: &Username) -> Result<Option<Found<User>>, Stop> {
        if self.confusable_names == ConfusableNames::Allow {
            return Ok(None);
        }
        // Accounts of the released version with a name in ASCII have no other look.
        self.users.find_first(&[("name_fold", &name.look), ("name_look", &name.look)]).await
    }
}

/// Adds the other forms of names to accounts of the released version.
///
/// # Errors
/// The database fails.
pub(super) async fn complete(
    users: &Documents<User>,
    confusable: ConfusableNames,
) -> Result<(), Stop> {
    let mut page = Page::of("name_fold", Bson::Null).limit(BATCH);
    loop {
        let batch = users.page(page).await?;
        let Some(last) = batch.last().map(|user| user.id.clone()) else {
            return Ok(());
        };
        // Names in ASCII differ in their folded forms, so that these can be added concurrently.
        let (ascii, others): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|user| user.value.username.is_ascii());
        let writes = stream::iter(ascii).map(|user| add(users, user, confusable));
        writes.buffer_unordered(WRITES).try_collect::<()>().await?;
        for user in others {
            add(users, user, confusable).await?;
        }
        page = Page::of("name_fold", Bson::Null).limit(BATCH).after::<String>(&last);
    }
}

/// Adds the forms of one name. If another account has its folded form, it gets one that no name
/// has, and is found only by its own spelling.
async fn add(
    users: &Documents<User>,
    user: Found<User>,
    confusable: ConfusableNames,
) -> Result<(), Stop> {
    let name = Username::of(&user.value.username);
    if !user.value.username.is_ascii() && confusable != ConfusableNames::Allow {
        let has_look = users.find("name_look", &name.look).await?.is_some();
        if !has_look {
            users.raise(&user.id, "name_look", name.look).await?;
        }
    }
    let owner = users.find("name_fold", &name.folded).await?;
    let folded = if owner.is_some_and(|owner| owner.id != user.id) {
        tracing::warn!(user = %user.id, "two accounts have spellings of one username");
        format!("\0{}", user.id)
    } else {
        name.folded
    };
    users.raise(&user.id, "name_fold", folded).await
}
