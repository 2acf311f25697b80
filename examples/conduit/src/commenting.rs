//! The concept Commenting: numbered comments on items.
//!
//! A unique index gives each number to one comment. A second document remembers the last number,
//! so that numbers of deleted comments are not used again.

use concert_worker::store::{Change, Deleted, Documents, Found, Inserted, Page, doc};
use concert_worker::{
    Call, NoSettings, Query, Start, StartError, Stop, Worker, concept, refused, retry,
};
use serde::{Deserialize, Serialize};

use crate::times::rfc3339;

/// The worker of Commenting.
pub(crate) fn worker() -> Worker {
    concept(include_str!("../concepts/Commenting.concept"))
        .open(Comments::open)
        .action("create", Comments::create)
        .action("delete", Comments::delete)
        .action("clear", Comments::clear)
        .query("_get", Comments::get)
        .query("_getComments", Comments::get_comments)
        .build()
}

/// Maximum number of comments in a list.
const LISTED_MAX: usize = 400;
/// Maximum number of attempts to get a number while others take numbers.
const ATTEMPTS: i64 = 1000;
const COUNTER: &str = "comments";

#[derive(Serialize, Deserialize)]
struct Comment {
    /// The number as a text, because only texts are unique fields.
    number: String,
    item: String,
    author: String,
    body: String,
}

#[derive(Serialize, Deserialize)]
struct Counter {
    last: i64,
}

#[derive(Deserialize)]
struct Create {
    author: String,
    item: String,
    body: String,
}

#[derive(Serialize)]
struct Created {
    comment: i64,
}

#[derive(Deserialize)]
struct OfComment {
    comment: f64,
}

#[derive(Deserialize)]
struct OfItem {
    item: String,
}

#[derive(Deserialize)]
struct ItemComment {
    item: String,
    comment: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    author: String,
    body: String,
    created_at: String,
}

#[derive(Serialize)]
struct Row {
    comment: i64,
    #[serde(flatten)]
    content: Content,
}

struct Comments {
    comments: Documents<Comment>,
    counters: Documents<Counter>,
}

impl Comments {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        let comments = start.documents("comments").unique("number").lookup_newest("item");
        let counters = start.documents("counters");
        Ok(Self { comments: comments.open().await?, counters: counters.open().await? })
    }

    async fn create(&self, call: Call<Create>) -> Result<Created, Stop> {
        let (Create { author, item, body }, call) = call.split();
        let id = call.new_id("comment");
        let last = self.counters.get(COUNTER).await?.map_or(0, |counter| counter.value.last);
        let mut comment = Comment { number: String::new(), item, author, body };
        for number in last + 1..=last + ATTEMPTS {
            comment.number = number.to_string();
            match self.comments.insert(call.permit().await?, &id, &comment).await? {
                Inserted::Done => return self.created(&call, &id).await,
                // Another comment has got this number.
                Inserted::Taken(_) => {}
            }
        }
        Err(retry("no number is free"))
    }

    /// The number of a stored comment: an earlier delivery may have stored it under another one.
    async fn created(&self, call: &Call<()>, id: &str) -> Result<Created, Stop> {
        let stored = self.comments.get(id).await?;
        let number = stored.and_then(|stored| stored.value.number.parse::<i64>().ok());
        let number = number.ok_or_else(|| retry("the comment was removed concurrently"))?;
        let last = doc! { "$max": ["$last", number] };
        let count = vec![doc! { "$set": { "last": last } }];
        self.counters.upsert(call.permit().await?, COUNTER, count).await?;
        Ok(Created { comment: number })
    }

    async fn delete(&self, call: Call<OfComment>) -> Result<(), Stop> {
        let missing = || refused("comment not found");
        let found = self.find(call.input.comment).await?.ok_or_else(missing)?;
        match self.comments.delete(call.permit().await?, &found.id).await? {
            Deleted::Done => Ok(()),
            Deleted::NotThere => Err(missing()),
        }
    }

    async fn clear(&self, call: Call<OfItem>) -> Result<(), Stop> {
        let page = Page::of("item", &call.input.item);
        self.comments.for_each(&call, &page, &Change::deletion()).await.map(drop)
    }

    async fn get(&self, query: Query<ItemComment>) -> Result<Option<Content>, Stop> {
        let ItemComment { item, comment } = query.input;
        let found = self.find(comment).await?.filter(|found| found.value.item == item);
        Ok(found.map(Content::of))
    }

    async fn get_comments(&self, query: Query<OfItem>) -> Result<Vec<Row>, Stop> {
        let page = Page::of("item", &query.input.item).newest_first().limit(LISTED_MAX);
        Ok(self.comments.page(page).await?.into_iter().filter_map(row).collect())
    }

    async fn find(&self, comment: f64) -> Result<Option<Found<Comment>>, Stop> {
        self.comments.find("number", &comment.to_string()).await
    }
}

impl Content {
    fn of(found: Found<Comment>) -> Self {
        let created_at = rfc3339(found.created_at);
        let Comment { author, body, .. } = found.value;
        Self { author, body, created_at }
    }
}

fn row(found: Found<Comment>) -> Option<Row> {
    Some(Row { comment: found.value.number.parse().ok()?, content: Content::of(found) })
}

#[cfg(test)]
mod tests;
