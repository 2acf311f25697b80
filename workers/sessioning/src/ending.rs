//! What ends many sessions at once writes down first which ones.
//!
//! Without that, a delivery that comes again much later would end the sessions that were made since.

use concert_host::{Failure, Lease};
use concert_store::{Index, Retention, StoreError, index, is_duplicate, unavailable};
use concert_wire::id::ActionId;
use mongodb::bson::{DateTime, doc};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};

/// What an action ends: the user's sessions that were there when it was first carried out. The document is never changed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ending {
    #[serde(rename = "_id")]
    action: String,
    /// When the newest of them was made; none if the user had no session.
    ///
    /// INVARIANT: a session whose making begins after this is written has a later `created_at` (`Sessions::create`), whatever the workers' clocks say.
    pub(crate) newest: Option<DateTime>,
    purge_at: DateTime,
}

/// The endings of an application.
pub(crate) struct Endings {
    collection: Collection<Ending>,
    retention: Retention,
}

impl Endings {
    pub(crate) async fn open(database: &Database, retention: Retention) -> Result<Self, StoreError> {
        let collection = database.collection("endings");
        index(&collection, "purge_at", Index::Expiry).await?;
        Ok(Self { collection, retention })
    }

    /// What an earlier delivery of this action wrote down.
    pub(crate) async fn of(&self, action: ActionId) -> Result<Option<Ending>, Failure> {
        let by_action = doc! { "_id": action.to_string() };
        self.collection.find_one(by_action).await.map_err(unavailable)
    }

    /// Writes down that this action ends the sessions up to the newest. What another delivery wrote meanwhile stands.
    pub(crate) async fn begin(
        &self,
        action: ActionId,
        newest: Option<DateTime>,
        lease: &Lease,
    ) -> Result<Ending, Failure> {
        let ending = Ending {
            action: action.to_string(),
            newest,
            purge_at: self.retention.until(DateTime::now()),
        };
        lease.check()?;
        match self.collection.insert_one(&ending).await {
            Ok(_) => Ok(ending),
            Err(error) if is_duplicate(&error) => self
                .of(action)
                .await?
                .ok_or_else(|| Failure::retry("another delivery of this action is not on disk yet")),
            Err(error) => Err(unavailable(error)),
        }
    }
}
