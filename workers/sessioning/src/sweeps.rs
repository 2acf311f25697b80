//! Which sessions an action that ends many is to end: written down before the first of them is ended, and kept as long as a redelivery may come.

use concert_wire::id::ActionId;
use concert_worker::store::operation::{FIND, INSERT};
use concert_worker::store::{Index, Retention, StoreError, index, is_duplicate, run, unavailable};
use concert_worker::{Failure, part};
use mongodb::bson::{Binary, DateTime, doc};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Sweep {
    #[serde(rename = "_id")]
    action: String,
    user: String,
    token_hashes: Vec<Binary>,
    at: DateTime,
    purge_at: DateTime,
}

pub(crate) struct Sweeps {
    collection: Collection<Sweep>,
    retention: Retention,
}

/// Sessions that one action ends at most: what one document holds.
const MOST: usize = 100_000;

impl Sweeps {
    pub(crate) async fn open(database: &Database, retention: Retention) -> Result<Self, StoreError> {
        let collection = database.collection("sweeps");
        index(&collection, "purge_at", Index::Expiry).await?;
        Ok(Self { collection, retention })
    }

    /// What an earlier delivery of this action wrote down.
    pub(crate) async fn of(&self, action: ActionId) -> Result<Option<Vec<Binary>>, Failure> {
        let found = run(FIND, self.collection.find_one(doc! { "_id": action.to_string() })).await?;
        Ok(found.map(|sweep| sweep.token_hashes))
    }

    /// Writes down what the action is to end; what another delivery wrote down first stands.
    pub(crate) async fn begin(
        &self,
        action: ActionId,
        user: &str,
        token_hashes: Vec<Binary>,
    ) -> Result<Vec<Binary>, Failure> {
        if token_hashes.len() > MOST {
            return Err(Failure::retry(format!("there are more than {MOST} sessions to end")));
        }
        let now = concert_worker::store::now();
        let sweep = Sweep {
            action: action.to_string(),
            user: user.to_owned(),
            token_hashes: token_hashes.clone(),
            at: now,
            purge_at: self.retention.until(now),
        };
        match part(INSERT, self.collection.insert_one(sweep)).await {
            Ok(_) => Ok(token_hashes),
            Err(error) if is_duplicate(&error) => match self.of(action).await? {
                Some(first) => Ok(first),
                None => Err(Failure::retry("what was written down is gone")),
            },
            Err(error) => Err(unavailable(error)),
        }
    }
}
