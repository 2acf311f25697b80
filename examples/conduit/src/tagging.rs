//! The concept Tagging: sorted tags of items.

use concert_worker::store::{Change, Changed, Documents, Inserted, Page, Target};
use concert_worker::{
    Call, NoSettings, One, Query, Start, StartError, Stop, Worker, concept, retry,
};
use serde::{Deserialize, Serialize};

/// The worker of Tagging.
pub(crate) fn worker() -> Worker {
    concept(include_str!("../concepts/Tagging.concept"))
        .open(Taggings::open)
        .action("replace", Taggings::replace)
        .action("clear", Taggings::clear)
        .query("_getTags", Taggings::get_tags)
        .query("_getItems", Taggings::get_items)
        .query("_getAll", Taggings::get_all)
        .build()
}

/// Maximum number of items in one response.
const ITEMS_MAX: usize = 10_000;

#[derive(Serialize, Deserialize)]
struct Tagged {
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Replace {
    item: String,
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct OfItem {
    item: String,
}

#[derive(Deserialize)]
struct OfTag {
    tag: String,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Serialize)]
struct Items {
    items: Vec<String>,
}

struct Taggings {
    items: Documents<Tagged>,
}

impl Taggings {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        Ok(Self { items: start.documents("items").lookup("tags").open().await? })
    }

    async fn replace(&self, call: Call<Replace>) -> Result<(), Stop> {
        let (Replace { item, tags }, call) = call.split();
        let Some(mut tags) = tags else { return Ok(()) };
        tags.sort_unstable();
        tags.dedup();
        match self.items.target(&call, &item).await? {
            Target::Done => return Ok(()),
            Target::Live(_) => {
                let change = Change::set("tags", tags);
                match self.items.update(call.permit().await?, &item, change).await? {
                    Changed::Done => return Ok(()),
                    Changed::NotThere | Changed::Taken(_) => {}
                }
            }
            Target::NotThere => {
                match self.items.insert(call.permit().await?, &item, &Tagged { tags }).await? {
                    Inserted::Done => return Ok(()),
                    Inserted::Taken(_) => {}
                }
            }
        }
        Err(retry("the tags were changed concurrently"))
    }

    /// The item keeps its document, because its id may be used again.
    async fn clear(&self, call: Call<OfItem>) -> Result<(), Stop> {
        let change = Change::set("tags", Vec::<String>::new());
        let _changed = self.items.update(call.permit().await?, &call.input.item, change).await?;
        Ok(())
    }

    async fn get_tags(&self, query: Query<OfItem>) -> Result<One<Tagged>, Stop> {
        let found = self.items.get(&query.input.item).await?;
        Ok(One(found.map_or(Tagged { tags: Vec::new() }, |found| found.value)))
    }

    async fn get_items(&self, query: Query<OfTag>) -> Result<Option<Items>, Stop> {
        let page = Page::of("tags", &query.input.tag).newest_first().limit(ITEMS_MAX);
        let found = self.items.page(page).await?;
        Ok(Some(Items { items: found.into_iter().map(|found| found.id).collect() }))
    }

    async fn get_all(&self, _: Query<Nothing>) -> Result<One<Tagged>, Stop> {
        Ok(One(Tagged { tags: self.items.values("tags").await? }))
    }
}

#[cfg(test)]
mod tests;
