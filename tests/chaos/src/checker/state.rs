//! Checks that the databases equal a fold of the completions in the log.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::bson::{Bson, Document};

use crate::cluster::Cluster;
use crate::history::History;
use crate::log::Message;

/// The ids of the successful and of the failed actions in the log, by concept and action.
struct LoggedOutcomes<'a> {
    done: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
}

impl<'a> LoggedOutcomes<'a> {
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
    let client = mongodb::Client::with_uri_str(&cluster.admin_uri).await?;
    let logged = LoggedOutcomes::fold(log);
    let sessions = all(&client.database("concert_sessioning"), "sessions").await?;
    let users = all(&client.database("concert_profile"), "users").await?;
    let same = |what: &str, stamps: Vec<&str>, logged: &BTreeSet<&str>| {
        each_once(history, what, stamps, logged)
    };
    same("sessions created", stamps(&sessions, "created_by"), &logged.of("Sessioning", "create"));
    same("accounts created", stamps(&users, "created_by"), &logged.of("Profile", "createAccount"));
    same("accounts deleted", stamps(&users, "deleted_by"), &logged.of("Profile", "deleteAccount"));
    let changes = users.iter().flat_map(|user| {
        user.get_array("changes")
            .into_iter()
            .flatten()
            .filter_map(|change| change.as_document()?.get_str("action").ok())
    });
    let changed: BTreeSet<&str> =
        &logged.of("Profile", "changePassword") | &logged.of("Profile", "deleteAccount");
    same("accounts changed", changes.collect(), &changed);
    let ended: Vec<&str> = sessions
        .iter()
        .filter_map(|session| session.get_document("ended").ok()?.get_str("by").ok())
        .collect();
    let logouts = logged.of("Sessioning", "delete");
    let sweeps = &logged.of("Sessioning", "deleteAll") | &logged.of("Sessioning", "deleteOthers");
    // A creation ends the oldest sessions above the limit, or its own before a cutoff.
    let sweeps = &sweeps | &logged.of("Sessioning", "create");
    if let Some(unknown) = ended.iter().find(|by| !logouts.contains(*by) && !sweeps.contains(*by)) {
        history
            .violated(format!("a session was ended by {unknown}, which has no success in the log"));
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

/// Each stamp exists once, and the stamps equal the successes.
fn each_once(history: &History, what: &str, stamps: Vec<&str>, logged: &BTreeSet<&str>) {
    let mut seen = BTreeSet::new();
    for stamp in stamps {
        if !seen.insert(stamp) {
            history.violated(format!("{what}: {stamp} took effect twice"));
        }
    }
    for stamp in seen.difference(logged) {
        history.violated(format!("{what}: {stamp} took effect without a success in the log"));
    }
    for stamp in logged.difference(&seen) {
        history.violated(format!("{what}: {stamp} has a success in the log but no effect"));
    }
}

fn one_account_per_name(history: &History, users: &[Document]) {
    let mut names = BTreeSet::new();
    for user in users {
        if let Ok(name) = user.get_str("name_key")
            && !names.insert(name)
        {
            history.violated(format!("two accounts have the name {name}"));
        }
    }
}
