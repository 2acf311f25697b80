use std::time::Duration;

use crate::Failure;
use anyhow::Context as _;
use concert_local_servers::{FindOptions, Throwaway};
use mongodb::Database;
use mongodb::bson::{Document, doc};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::*;
use crate::store::{StoreArgs, connect};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Thing {
    #[serde(rename = "_id")]
    id: Binary,
    number: i32,
}

const THINGS: i32 = 500;
const PATIENCE: Duration = Duration::from_secs(7);

fn id(number: i32) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: number.to_be_bytes().to_vec(),
    }
}

/// A database in which every even number is a thing.
async fn things() -> anyhow::Result<(Throwaway, Database, Arc<Lookups<Thing>>)> {
    let servers = Throwaway::start(&FindOptions::of_user()?).await?;
    let args = StoreArgs {
        mongodb_uri: servers.mongo.uri(),
        database_prefix: "lookups".to_owned(),
        database_connections: 32,
    };
    let database = connect(&args, "Thing").await?;
    let things = database.collection::<Document>("things");
    let even = (0..THINGS)
        .step_by(2)
        .map(|number| doc! { "_id": id(number), "number": number });
    things.insert_many(even).await?;
    let lookups = Lookups::within(&things, PATIENCE);
    Ok((servers, database, Arc::new(lookups)))
}

/// How many finds the server has carried out.
async fn finds(database: &Database) -> anyhow::Result<i64> {
    let status = database.run_command(doc! { "serverStatus": 1, "repl": 0 }).await?;
    let finds = status
        .get_document("metrics")?
        .get_document("commands")?
        .get_document("find")?;
    Ok(finds.get_i64("total")?)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_hears_of_what_they_asked_for_and_many_are_looked_for_together() -> anyhow::Result<()> {
    let (_servers, database, lookups) = things().await?;
    let before = finds(&database).await?;
    let mut asking = JoinSet::new();
    // Each is asked for twice, so that one look has it twice.
    for number in (0..THINGS).chain(0..THINGS) {
        let lookups = lookups.clone();
        asking.spawn(async move { (number, lookups.find(&number.to_be_bytes()).await) });
    }
    for (number, found) in asking.join_all().await {
        let thing = Thing { id: id(number), number };
        assert_eq!(
            found.map_err(|failure| anyhow::anyhow!("{failure:?}"))?,
            (number % 2 == 0).then_some(thing)
        );
    }
    let asked = finds(&database).await? - before;
    assert!((1..=i64::from(THINGS) / 5).contains(&asked), "{asked} finds");

    // One after another, nobody waits for anybody.
    let before = finds(&database).await?;
    for number in 0..10_i32 {
        assert_eq!(
            lookups.find(&number.to_be_bytes()).await.ok().flatten().is_some(),
            number % 2 == 0
        );
    }
    let asked = finds(&database).await? - before;
    // The server has a find of its own now and then.
    assert!((10..=12).contains(&asked), "{asked} finds");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gives_up_takes_nobody_along_and_an_absent_database_is_told_to_everybody() -> anyhow::Result<()> {
    let (mut servers, _database, lookups) = things().await?;
    for round in 0..20 {
        let mut asking = JoinSet::new();
        for number in 0..50_i32 {
            let lookups = lookups.clone();
            asking.spawn(async move {
                let id = number.to_be_bytes();
                let find = lookups.find(&id);
                if number % 3 == 0 {
                    tokio::time::timeout(Duration::from_micros(50 * round), find)
                        .await
                        .is_ok()
                } else {
                    find.await.is_ok_and(|found| found.is_some() == (number % 2 == 0))
                }
            });
        }
        let heard = asking.join_all().await.into_iter().filter(|heard| *heard).count();
        assert!(heard >= 33, "{heard} of those who waited heard");
    }
    servers.mongo.kill().await;
    let mut asking = JoinSet::new();
    for number in 0..50_i32 {
        let lookups = lookups.clone();
        asking.spawn(async move { lookups.find(&number.to_be_bytes()).await });
    }
    for found in asking.join_all().await {
        assert!(matches!(found, Err(Failure::Retry(_))), "{found:?}");
    }
    servers.mongo.restart().await?;
    let found = lookups.find(&2_i32.to_be_bytes()).await.ok().flatten();
    assert_eq!(found.map(|thing| thing.number), Some(2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_such_document_is_told_to_who_asked_for_it_alone() -> anyhow::Result<()> {
    let (_servers, database, lookups) = things().await?;
    let things = database.collection::<Document>("things");
    things.insert_one(doc! { "_id": id(1001), "number": "a word" }).await?;
    let mut asking = JoinSet::new();
    for number in [1001, 0, 2, 4, 1001, 6, 8] {
        let lookups = lookups.clone();
        asking.spawn(async move { (number, lookups.find(&i32::to_be_bytes(number)).await) });
    }
    for (number, found) in asking.join_all().await {
        assert_eq!(found.is_err(), number == 1001, "{number}: {found:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_never_ends_keeps_no_place() -> anyhow::Result<()> {
    let (servers, database, _) = things().await?;
    let lookups = Arc::new(Lookups::<Thing>::within(
        &database.collection::<Document>("things"),
        Duration::from_secs(1),
    ));
    assert!(
        lookups
            .find(&2_i32.to_be_bytes())
            .await
            .is_ok_and(|found| found.is_some())
    );
    let mongod = rustix::process::Pid::from_raw(i32::try_from(servers.mongo.pid())?).context("a process id")?;
    rustix::process::kill_process(mongod, rustix::process::Signal::STOP)?;
    // All its threads stop a moment later.
    while lookups.find(&2_i32.to_be_bytes()).await.is_ok() {}
    let mut asking = JoinSet::new();
    for number in 0..50_i32 {
        let lookups = lookups.clone();
        asking.spawn(async move { lookups.find(&i32::to_be_bytes(number)).await });
    }
    let told = asking.join_all().await;
    rustix::process::kill_process(mongod, rustix::process::Signal::CONT)?;
    for found in told {
        assert!(found.is_err_and(|failure| failure.to_string().contains("in time")));
    }
    let found = loop {
        // The driver may have to find out first that its server is there again.
        if let Ok(found) = lookups.find(&2_i32.to_be_bytes()).await {
            break found;
        }
    };
    assert_eq!(found.map(|thing| thing.number), Some(2));
    while lookups.shared.queue().under_way > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}
