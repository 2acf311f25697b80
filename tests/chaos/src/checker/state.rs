//! What the databases hold is what the log says was done: a fold over its completions.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::bson::{Bson, Document};

use super::log::Message;
use crate::cluster::Cluster;
use crate::history::History;

/// The ids of the actions that the log calls done, by concept and action; and of those that it
/// calls failed.
struct Told<'a> {
    done: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
}

impl<'a> Told<'a> {
    fn fold(log: &'a [Message]) -> Self {
        let mut done: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for message in log {
            if let (Some((_, concept, action, id)), false) = (message.tokens(), message.failed()) {
                done.entry((concept, action)).or_default().insert(id);
            }
        }
        Self { done }
    }

    fn of(&self, concept: &str, action: &str) -> BTreeSet<&'a str> {
        self.done.get(&(concept, action)).cloned().unwrap_or_default()
    }
}

pub(super) async fn check(
    cluster: &Cluster,
    history: &History,
    log: &[Message],
) -> anyhow::Result<()> {
    let client = mongodb::Client::with_uri_str(&cluster.mongo_uri).await?;
    let told = Told::fold(log);
    let sessions = all(&client.database("concert_sessioning"), "sessions").await?;
    let users = all(&client.database("concert_profile"), "users").await?;
    let same = |what: &str, stamps: Vec<&str>, told: &BTreeSet<&str>| {
        each_once(history, what, stamps, told)
    };
    same("sessions made", stamps(&sessions, "created_by"), &told.of("Sessioning", "create"));
    same("accounts made", stamps(&users, "created_by"), &told.of("Profile", "createAccount"));
    same("accounts deleted", stamps(&users, "deleted_by"), &told.of("Profile", "deleteAccount"));
    let changes = users.iter().flat_map(|user| {
        user.get_array("changes")
            .into_iter()
            .flatten()
            .filter_map(|change| change.as_document()?.get_str("action").ok())
    });
    let changed: BTreeSet<&str> =
        &told.of("Profile", "changePassword") | &told.of("Profile", "deleteAccount");
    same("accounts changed", changes.collect(), &changed);
    let ended: Vec<&str> = sessions
        .iter()
        .filter_map(|session| session.get_document("ended").ok()?.get_str("by").ok())
        .collect();
    let logouts = told.of("Sessioning", "delete");
    let sweeps = &told.of("Sessioning", "deleteAll") | &told.of("Sessioning", "deleteOthers");
    // A creation ends the oldest sessions above the limit, or its own before a cutoff.
    let sweeps = &sweeps | &told.of("Sessioning", "create");
    if let Some(unknown) = ended.iter().find(|by| !logouts.contains(*by) && !sweeps.contains(*by)) {
        history.violated(format!(
            "a session was ended by {unknown}, which the log does not call done"
        ));
    }
    let by_logout = ended.into_iter().filter(|by| !sweeps.contains(by)).collect();
    same("sessions ended", by_logout, &logouts);
    one_account_per_name(history, &users);
    Ok(())
}

pub(super) async fn all(database: &Database, collection: &str) -> anyhow::Result<Vec<Document>> {
    let found = database.collection::<Document>(collection).find(Document::new()).await?;
    Ok(found.try_collect().await?)
}

fn stamps<'a>(documents: &'a [Document], key: &str) -> Vec<&'a str> {
    documents.iter().filter_map(|document| document.get(key).and_then(Bson::as_str)).collect()
}

/// Each stamp stands once, and stamps and successes are the same.
fn each_once(history: &History, what: &str, stamps: Vec<&str>, told: &BTreeSet<&str>) {
    let mut seen = BTreeSet::new();
    for stamp in stamps {
        if !seen.insert(stamp) {
            history.violated(format!("{what}: {stamp} did it twice"));
        }
    }
    for stamp in seen.difference(told) {
        history.violated(format!("{what}: {stamp} did it, and the log does not say so"));
    }
    for stamp in told.difference(&seen) {
        history.violated(format!("{what}: the log says that {stamp} did it, and it did not"));
    }
}

fn one_account_per_name(history: &History, users: &[Document]) {
    let mut names = BTreeSet::new();
    for user in users {
        if let Ok(name) = user.get_str("name_key")
            && !names.insert(name)
        {
            history.violated(format!("two accounts are called {name}"));
        }
    }
}
