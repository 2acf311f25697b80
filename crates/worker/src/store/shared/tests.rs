use std::time::Duration;

use anyhow::Context as _;
use concert_local_servers::{FindOptions, TestServers};
use mongodb::Database;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use tokio::task::JoinSet;

use super::*;
use crate::store::id::Key;
use crate::store::lookups::{Count, Lookup, Lookups, Wanted};
use crate::store::tests::executed;
use crate::store::{StoreArgs, connect};

const THINGS: i32 = 500;

fn key(number: i32) -> Key {
    Key::Bytes(number.to_be_bytes().to_vec())
}

fn id(number: i32) -> Wanted {
    Wanted::id(key(number))
}

/// The number in a document that was found.
fn number(found: Option<RawDocumentBuf>) -> Option<i32> {
    found.and_then(|thing| thing.get_i32("number").ok())
}

/// A database with a document for every even number.
async fn things() -> anyhow::Result<(TestServers, Database, Arc<Lookups>)> {
    let servers = TestServers::start(&FindOptions::of_user()?).await?;
    let args = StoreArgs {
        mongodb_uri: servers.mongo.uri(),
        keys_dir: None,
        database_prefix: "lookups".to_owned(),
        database_connections: 32,
    };
    let database = connect(&args, "Thing").await?;
    let things = database.collection::<Document>("things");
    let even = (0..THINGS).step_by(2).map(|number| {
        doc! { "_id": key(number).bson(), "number": number, "name": format!("n{number}") }
    });
    things.insert_many(even).await?;
    let lookups = Shared::new(Lookup::new(database.clone().into(), "things"));
    Ok((servers, database, Arc::new(lookups)))
}

/// Number of finds that the server has executed.
async fn finds(database: &Database) -> anyhow::Result<i64> {
    executed(database, "find").await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_lookups_share_operations_and_get_their_own_results() -> anyhow::Result<()> {
    let (_servers, database, lookups) = things().await?;
    let before = finds(&database).await?;
    let mut asking = JoinSet::new();
    // Each is requested twice, so one operation has duplicates.
    for number in (0..THINGS).chain(0..THINGS) {
        let lookups = lookups.clone();
        asking.spawn(async move { (number, lookups.ask(id(number)).await) });
    }
    for (number, found) in asking.join_all().await {
        let found = found.map_err(|stop| anyhow::anyhow!("{stop}"))?;
        assert_eq!(self::number(found), (number % 2 == 0).then_some(number));
    }
    let asked = finds(&database).await? - before;
    assert!((1..=i64::from(THINGS) / 5).contains(&asked), "{asked} finds");

    // Sequential lookups do not wait for each other.
    let before = finds(&database).await?;
    for number in 0..10_i32 {
        assert_eq!(lookups.ask(id(number)).await.ok().flatten().is_some(), number % 2 == 0);
    }
    let asked = finds(&database).await? - before;
    // The server occasionally runs a find of its own.
    assert!((10..=12).contains(&asked), "{asked} finds");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_by_several_fields_share_one_operation() -> anyhow::Result<()> {
    let (_servers, database, lookups) = things().await?;
    let before = finds(&database).await?;
    let name = |name| Wanted::value("name", name);
    // The same document by its name and by its id, other documents, and missing ones. No document
    // has the name of another one's id.
    let wanted = [name("n2"), id(2), name("n4"), id(6), name("n3"), id(3), name("2")];
    let found = lookups.ask_all(wanted).await.map_err(|stop| anyhow::anyhow!("{stop}"))?;
    let numbers: Vec<_> = found.into_iter().map(number).collect();
    assert_eq!(numbers, [Some(2), Some(2), Some(4), Some(6), None, None, None]);
    let asked = finds(&database).await? - before;
    // The server occasionally runs a find of its own.
    assert!((1..=2).contains(&asked), "{asked} finds");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_lookup_affects_no_other_and_missing_database_fails_all() -> anyhow::Result<()> {
    let (mut servers, _database, lookups) = things().await?;
    for round in 0..20 {
        let mut asking = JoinSet::new();
        for number in 0..50_i32 {
            let lookups = lookups.clone();
            asking.spawn(async move {
                let find = lookups.ask(id(number));
                if number % 3 == 0 {
                    tokio::time::timeout(Duration::from_micros(50 * round), find).await.is_ok()
                } else {
                    find.await.is_ok_and(|found| found.is_some() == (number % 2 == 0))
                }
            });
        }
        let failed = asking.join_all().await.into_iter().filter(|failed| *failed).count();
        assert!(failed >= 33, "{failed} of the waiting lookups got the error");
    }
    servers.mongo.kill().await;
    let mut asking = JoinSet::new();
    for number in 0..50_i32 {
        let lookups = lookups.clone();
        asking.spawn(async move { lookups.ask(id(number)).await });
    }
    for found in asking.join_all().await {
        assert!(matches!(found, Err(Stop::Retry(_))), "{found:?}");
    }
    servers.mongo.restart().await?;
    let found = lookups.ask(id(2)).await.ok().flatten();
    assert_eq!(number(found), Some(2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lookup_that_hangs_frees_its_slot() -> anyhow::Result<()> {
    let (servers, database, _) = things().await?;
    let lookup = Lookup::new(database.clone().into(), "things");
    let lookups = Arc::new(Shared::within(lookup, Duration::from_secs(1)));
    assert!(lookups.ask(id(2)).await.is_ok_and(|found| found.is_some()));
    let mongod = rustix::process::Pid::from_raw(i32::try_from(servers.mongo.pid())?)
        .context("a process id")?;
    rustix::process::kill_process(mongod, rustix::process::Signal::STOP)?;
    // Its threads stop shortly after the signal.
    while lookups.ask(id(2)).await.is_ok() {}
    let mut asking = JoinSet::new();
    for number in 0..50_i32 {
        let lookups = lookups.clone();
        asking.spawn(async move { lookups.ask(id(number)).await });
    }
    let results = asking.join_all().await;
    rustix::process::kill_process(mongod, rustix::process::Signal::CONT)?;
    for found in results {
        assert!(found.is_err_and(|failure| failure.to_string().contains("in time")));
    }
    let found = loop {
        // The driver may first have to notice that its server is available again.
        if let Ok(found) = lookups.ask(id(2)).await {
            break found;
        }
    };
    assert_eq!(number(found), Some(2));
    while lookups.0.queue().slots.iter().any(Option::is_some) {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_counts_share_operations_and_get_their_own_results() -> anyhow::Result<()> {
    let (_servers, database, _) = things().await?;
    let tagged = (0..100_i32).map(|number| {
        let tag = format!("t{}", number % 7);
        doc! { "_id": format!("tagged {number}"), "tag": tag, "deleted": number % 10 == 9 }
    });
    database.collection::<Document>("things").insert_many(tagged).await?;
    let expected =
        |tag: i32| (0..100).filter(|number| number % 7 == tag && number % 10 != 9).count();
    let live = doc! { "deleted": { "$ne": true } };
    let counts = Count::new(database.clone().into(), "things", "tag", live);
    let counts = Arc::new(Shared::new(counts));
    let before = executed(&database, "aggregate").await?;
    let mut asking = JoinSet::new();
    for number in 0..200_i32 {
        let counts = counts.clone();
        let tag = number % 8;
        asking.spawn(async move { (tag, counts.ask(Key::Text(format!("t{tag}"))).await) });
    }
    for (tag, found) in asking.join_all().await {
        let count = found.map_err(|stop| anyhow::anyhow!("{stop}"))?;
        assert_eq!(usize::try_from(count)?, expected(tag), "t{tag}");
    }
    let asked = executed(&database, "aggregate").await? - before;
    assert!((1..=40).contains(&asked), "{asked} operations");
    Ok(())
}

/// An operation that takes as many milliseconds as its largest item says, and records its items.
#[derive(Default)]
struct Sleep(Mutex<Vec<Vec<u64>>>);

impl Operation for Sleep {
    type Item = u64;
    type Answer = u64;

    fn bytes(_: &u64) -> usize {
        1
    }

    fn run<'a>(&'a self, items: &'a [u64]) -> Boxed<'a, Result<Vec<u64>, String>> {
        Box::pin(async move {
            self.0.lock().unwrap().push(items.to_vec());
            let longest = items.iter().copied().max().unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(longest)).await;
            Ok(items.to_vec())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn callers_share_the_next_operation_unless_one_is_slow() {
    // Times at which callers ask, their items, and the times of their answers, in milliseconds.
    let check = async |callers: &[(u64, u64, u64)], operations: &[&[u64]]| {
        let (shared, began) = (Arc::new(Shared::new(Sleep::default())), Instant::now());
        let mut asking = JoinSet::new();
        for &(at, item, answered) in callers {
            let shared = shared.clone();
            asking.spawn(async move {
                tokio::time::sleep(Duration::from_millis(at)).await;
                assert_eq!(shared.ask(item).await, Ok(item));
                assert_eq!(began.elapsed().as_millis(), u128::from(answered), "item {item}");
            });
        }
        asking.join_all().await;
        assert_eq!(*shared.0.operation.0.lock().unwrap(), operations);
        assert_eq!(shared.0.queue().slots, [None; CONCURRENT]);
    };
    // One begins immediately, and those that arrive meanwhile share the next one.
    check(&[(0, 20, 20), (1, 10, 30), (2, 9, 30), (31, 8, 39)], &[&[20], &[10, 9], &[8]]).await;
    // One that is slow delays the callers behind it only until it is known to be slow.
    check(&[(0, 3000, 3000), (10, 1, 52), (20, 2, 52)], &[&[3000], &[1, 2]]).await;
    check(&[(0, 3000, 3000), (70, 5, 75), (71, 6, 82), (72, 7, 82)], &[&[3000], &[5], &[6, 7]])
        .await;
    // If all are slow, callers wait.
    check(&[(0, 200, 200), (60, 300, 360), (120, 1, 201)], &[&[200], &[300], &[1]]).await;
}
