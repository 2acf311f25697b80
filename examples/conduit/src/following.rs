//! The concept Following: who follows whom.

use concert_worker::{Call, NoSettings, One, Query, Start, StartError, Stop, Worker, concept};
use serde::{Deserialize, Serialize};

use crate::pairs::Pairs;

/// The worker of Following.
pub(crate) fn worker() -> Worker {
    concept(include_str!("../concepts/Following.concept"))
        .open(Follows::open)
        .action("follow", Follows::follow)
        .action("unfollow", Follows::unfollow)
        .query("_isFollowing", Follows::is_following)
        .query("_getFollowed", Follows::get_followed)
        .build()
}

#[derive(Deserialize)]
struct Follow {
    follower: String,
    followed: String,
}

#[derive(Deserialize)]
struct OfPair {
    followed: String,
    follower: Option<String>,
}

#[derive(Deserialize)]
struct OfFollower {
    follower: String,
}

#[derive(Serialize)]
struct IsFollowing {
    following: bool,
}

#[derive(Serialize)]
struct Followed {
    followed: Vec<String>,
}

struct Follows(Pairs);

impl Follows {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        Ok(Self(Pairs::open(&start).await?))
    }

    async fn follow(&self, call: Call<Follow>) -> Result<(), Stop> {
        let (Follow { follower, followed }, call) = call.split();
        self.0.add(&call, &follower, &followed).await
    }

    async fn unfollow(&self, call: Call<Follow>) -> Result<(), Stop> {
        let (Follow { follower, followed }, call) = call.split();
        self.0.remove(&call, &follower, &followed).await
    }

    async fn is_following(&self, query: Query<OfPair>) -> Result<One<IsFollowing>, Stop> {
        let OfPair { followed, follower } = query.input;
        let following = self.0.contains(follower.as_deref(), &followed).await?;
        Ok(One(IsFollowing { following }))
    }

    async fn get_followed(&self, query: Query<OfFollower>) -> Result<One<Followed>, Stop> {
        Ok(One(Followed { followed: self.0.targets(&[query.input.follower]).await? }))
    }
}

#[cfg(test)]
mod tests;
