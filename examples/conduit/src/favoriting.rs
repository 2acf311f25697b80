//! The concept Favoriting: what users like.

use concert_worker::{Call, NoSettings, One, Query, Start, StartError, Stop, Worker, concept};
use serde::{Deserialize, Serialize};

use crate::pairs::Pairs;

/// The worker of Favoriting.
pub(crate) fn worker() -> Worker {
    concept(include_str!("../concepts/Favoriting.concept"))
        .open(Favorites::open)
        .action("favorite", Favorites::favorite)
        .action("unfavorite", Favorites::unfavorite)
        .action("clear", Favorites::clear)
        .query("_getFavorites", Favorites::get_favorites)
        .query("_getItems", Favorites::get_items)
        .build()
}

#[derive(Deserialize)]
struct Favorite {
    user: String,
    item: String,
}

#[derive(Deserialize)]
struct OfItem {
    item: String,
    user: Option<String>,
}

#[derive(Deserialize)]
struct OfUsers {
    users: Vec<String>,
}

#[derive(Serialize)]
struct Counted {
    count: u64,
    favorited: bool,
}

#[derive(Serialize)]
struct Items {
    items: Vec<String>,
}

struct Favorites(Pairs);

impl Favorites {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        Ok(Self(Pairs::open(&start).await?))
    }

    async fn favorite(&self, call: Call<Favorite>) -> Result<(), Stop> {
        let (Favorite { user, item }, call) = call.split();
        self.0.add(&call, &user, &item).await
    }

    async fn unfavorite(&self, call: Call<Favorite>) -> Result<(), Stop> {
        let (Favorite { user, item }, call) = call.split();
        self.0.remove(&call, &user, &item).await
    }

    async fn clear(&self, call: Call<OfItem>) -> Result<(), Stop> {
        let (OfItem { item, .. }, call) = call.split();
        self.0.remove_target(&call, &item).await
    }

    async fn get_favorites(&self, query: Query<OfItem>) -> Result<One<Counted>, Stop> {
        let OfItem { item, user } = query.input;
        let favorited = self.0.contains(user.as_deref(), &item).await?;
        Ok(One(Counted { count: self.0.count(&item).await?, favorited }))
    }

    async fn get_items(&self, query: Query<OfUsers>) -> Result<Option<Items>, Stop> {
        Ok(Some(Items { items: self.0.targets(&query.input.users).await? }))
    }
}

#[cfg(test)]
mod tests;
