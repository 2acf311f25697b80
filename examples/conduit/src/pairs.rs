//! Pairs of a user and a target, of which each exists at most once.

use concert_worker::store::{Change, Changed, Documents, Inserted, Page, Target};
use concert_worker::{Call, NoSettings, Start, StartError, Stop};
use serde::{Deserialize, Serialize};

/// Maximum number of targets in one list.
const TARGETS_MAX: usize = 10_000;

#[derive(Serialize, Deserialize)]
struct Pair {
    user: String,
    /// Missing if the pair was removed. It keeps its stamps, and may be added again.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// The pairs of a concept.
pub(crate) struct Pairs {
    pairs: Documents<Pair>,
}

impl Pairs {
    pub(crate) async fn open(start: &Start<NoSettings>) -> Result<Self, StartError> {
        let pairs = start.documents("pairs").lookup("user").lookup("target");
        Ok(Self { pairs: pairs.open().await? })
    }

    /// Adds a pair, unless it exists.
    pub(crate) async fn add(&self, call: &Call<()>, user: &str, target: &str) -> Result<(), Stop> {
        let id = id(user, target);
        // The second time, another action has inserted the pair.
        for _ in 0..2 {
            match self.pairs.target(call, &id).await? {
                Target::Done => return Ok(()),
                Target::Live(_) => {
                    let change = Change::set("target", target);
                    let changed = self.pairs.update(call.permit().await?, &id, change).await?;
                    if changed == Changed::Done {
                        return Ok(());
                    }
                }
                Target::NotThere => {
                    let pair = Pair { user: user.to_owned(), target: Some(target.to_owned()) };
                    let inserted = self.pairs.insert(call.permit().await?, &id, &pair).await?;
                    if inserted == Inserted::Done {
                        return Ok(());
                    }
                }
            }
        }
        // The target was removed with all its pairs.
        Ok(())
    }

    /// Removes a pair, if it exists.
    pub(crate) async fn remove(
        &self,
        call: &Call<()>,
        user: &str,
        target: &str,
    ) -> Result<(), Stop> {
        let change = Change::unset("target");
        let _changed = self.pairs.update(call.permit().await?, &id(user, target), change).await?;
        Ok(())
    }

    /// Removes all pairs of a target permanently.
    pub(crate) async fn remove_target(&self, call: &Call<()>, target: &str) -> Result<(), Stop> {
        let page = Page::of("target", target);
        self.pairs.for_each(call, &page, &Change::deletion()).await.map(drop)
    }

    /// Returns whether a pair exists. Without a user, none does.
    pub(crate) async fn contains(&self, user: Option<&str>, target: &str) -> Result<bool, Stop> {
        let Some(user) = user else { return Ok(false) };
        let pair = self.pairs.get(&id(user, target)).await?;
        Ok(pair.is_some_and(|pair| pair.value.target.is_some()))
    }

    pub(crate) async fn count(&self, target: &str) -> Result<u64, Stop> {
        self.pairs.count_of("target", target).await
    }

    /// The targets of these users, the latest pair first.
    pub(crate) async fn targets(&self, users: &[String]) -> Result<Vec<String>, Stop> {
        let page = Page::all().one_of("user", users).newest_first().limit(TARGETS_MAX);
        let pairs = self.pairs.page(page).await?;
        Ok(pairs.into_iter().filter_map(|pair| pair.value.target).collect())
    }
}

/// Ids have no slash.
fn id(user: &str, target: &str) -> String {
    format!("{user}/{target}")
}
