use std::time::Duration;

use mongodb::Database;
use serde::Deserialize;

use super::*;
use crate::trial::Bench;
use crate::{Call, Stop};

#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
struct Book {
    title: String,
    shelf: String,
    lent: i32,
}

fn book(title: &str, shelf: &str) -> Book {
    Book { title: title.to_owned(), shelf: shelf.to_owned(), lent: 0 }
}

async fn books() -> anyhow::Result<(Bench, Documents<Book>)> {
    let bench = Bench::of("Library").await?;
    let books = bench.start(()).documents("books").unique("title").lookup("shelf").open().await?;
    Ok((bench, books))
}

async fn insert(books: &Documents<Book>, title: &str, shelf: &str) -> Result<String, Stop> {
    let call = Call::direct(None, ());
    let id = call.new_id("book");
    let inserted = books.insert(call.permit().await?, &id, &book(title, shelf)).await?;
    assert_eq!(inserted, Inserted::Done);
    Ok(id)
}

#[tokio::test]
async fn concurrent_deliveries_of_one_action_have_the_same_result() -> anyhow::Result<()> {
    let (_bench, books) = books().await?;
    let (create, rename, delete) =
        (Call::direct(None, ()), Call::direct(None, ()), Call::direct(None, ()));
    let id = create.new_id("book");
    let emma = book("Emma", "a");
    let both = async || {
        let one = async { books.insert(create.permit().await?, &id, &emma).await };
        let other = async { books.insert(create.permit().await?, &id, &emma).await };
        tokio::try_join!(one, other)
    };
    assert_eq!(both().await?, (Inserted::Done, Inserted::Done));
    let change = || Change::set("title", "$lent").and_unset("lent");
    let both = async || {
        let one = async { books.update(rename.permit().await?, &id, change()).await };
        let other = async { books.update(rename.permit().await?, &id, change()).await };
        tokio::try_join!(one, other)
    };
    assert_eq!(both().await?, (Changed::Done, Changed::Done));
    let raw = books.untyped.collection().clone_with_type::<Document>();
    let stored = raw.find_one(doc! {}).await?.unwrap_or_default();
    assert_eq!(stored.get_str("title")?, "$lent", "a text is not an expression");
    assert_eq!((stored.get_array("changes")?.len(), stored.get("lent")), (1, None));
    let both = async || {
        let one = async { books.delete(delete.permit().await?, &id).await };
        let other = async { books.delete(delete.permit().await?, &id).await };
        tokio::try_join!(one, other)
    };
    assert_eq!(both().await?, (Deleted::Done, Deleted::Done));
    // Each action finds its own write, regardless of later ones.
    assert!(matches!(books.target(&rename, &id).await?, Target::Done));
    assert_eq!(both().await?, (Deleted::Done, Deleted::Done));
    assert_eq!(books.update(rename.permit().await?, &id, change()).await?, Changed::Done);
    assert_eq!(books.insert(create.permit().await?, &id, &emma).await?, Inserted::Done);
    let later = Call::direct(None, ());
    assert_eq!(books.delete(later.permit().await?, &id).await?, Deleted::NotThere);
    assert_eq!(books.update(later.permit().await?, &id, change()).await?, Changed::NotThere);
    assert!(matches!(books.target(&later, &id).await?, Target::NotThere));
    assert_eq!(books.get(&id).await?.map(|found| found.id), None);
    Ok(())
}

/// Number of commands with this name that the server has executed.
pub(super) async fn executed(database: &Database, command: &str) -> anyhow::Result<i64> {
    let status = database.run_command(doc! { "serverStatus": 1, "repl": 0 }).await?;
    let commands = status.get_document("metrics")?.get_document("commands")?;
    Ok(commands.get_document(command)?.get_i64("total")?)
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_share_commands_and_get_their_own_results() -> anyhow::Result<()> {
    const BOOKS: usize = 200;
    let (_bench, books) = books().await?;
    let database = books.untyped.database.now();
    insert(&books, "held", "b").await?;
    let before = executed(&database, "insert").await?;
    // Every title is inserted twice.
    let creations = (0..BOOKS).map(|number| {
        let (books, title) = (&books, (number / 2).to_string());
        async move {
            let call = Call::direct(None, ());
            let id = call.new_id("book");
            let done = books.insert(call.permit().await?, &id, &book(&title, "a")).await?;
            Ok::<_, Stop>((id, done))
        }
    });
    let created = futures_util::future::try_join_all(creations).await?;
    let taken = Inserted::Taken("title".to_owned());
    for two in created.chunks(2) {
        let is_done = |done: &Inserted| two.iter().filter(|(_, is)| is == done).count();
        assert_eq!((is_done(&Inserted::Done), is_done(&taken)), (1, 1), "{two:?}");
    }
    let commands = executed(&database, "insert").await? - before;
    assert!((1..=BOOKS as i64 / 5).contains(&commands), "{commands} commands");

    let before = executed(&database, "update").await?;
    let (call, another) = (Call::direct(None, ()), Call::direct(None, ()));
    let renamed = created.iter().enumerate().map(|(number, (id, done))| {
        let (books, call, another) = (&books, &call, &another);
        async move {
            let title = if number % 3 == 0 { "held".to_owned() } else { format!("new {number}") };
            let renamed =
                books.update(call.permit().await?, id, Change::set("title", title)).await?;
            let expected = match done {
                Inserted::Taken(_) => Changed::NotThere,
                Inserted::Done if number % 3 == 0 => Changed::Taken("title".to_owned()),
                Inserted::Done => Changed::Done,
            };
            // Two deliveries delete it at once.
            let one = async { books.delete(another.permit().await?, id).await };
            let other = async { books.delete(another.permit().await?, id).await };
            let deleted = tokio::try_join!(one, other)?;
            Ok::<_, Stop>(((renamed, expected), (done, deleted)))
        }
    });
    for ((renamed, expected), (done, deleted)) in
        futures_util::future::try_join_all(renamed).await?
    {
        assert_eq!(renamed, expected);
        let deletion = match done {
            Inserted::Done => Deleted::Done,
            Inserted::Taken(_) => Deleted::NotThere,
        };
        assert_eq!(deleted, (deletion, deletion));
    }
    let commands = executed(&database, "update").await? - before;
    assert!((1..=3 * BOOKS as i64 / 5).contains(&commands), "{commands} commands");
    Ok(())
}

#[tokio::test]
async fn write_checks_unique_value_and_condition() -> anyhow::Result<()> {
    let (_bench, books) = books().await?;
    let emma = insert(&books, "Emma", "a").await?;
    let persuasion = insert(&books, "Persuasion", "a").await?;
    let call = Call::direct(None, ());
    let taken = Inserted::Taken("title".to_owned());
    let again = call.new_id("book");
    assert_eq!(books.insert(call.permit().await?, &again, &book("Emma", "b")).await?, taken);
    let other = book("Sanditon", "b");
    let taken = Inserted::Taken("_id".to_owned());
    assert_eq!(books.insert(call.permit().await?, &emma, &other).await?, taken);
    let change = Change::set("title", "Emma");
    let taken = Changed::Taken("title".to_owned());
    assert_eq!(books.update(call.permit().await?, &persuasion, change).await?, taken);

    let lend = |from: i32| Change::set("lent", from + 1).only_if("lent", from);
    let lent = books.update(call.permit().await?, &emma, lend(0)).await?;
    assert_eq!(lent, Changed::Done);
    let other = Call::direct(None, ());
    let stale = books.update(other.permit().await?, &emma, lend(0)).await;
    assert!(matches!(stale, Err(Stop::Retry(_))), "{stale:?}");
    let named = books.find("titel", "Emma").await;
    assert!(matches!(named, Err(Stop::Retry(why)) if why.contains("`titel`")));
    Ok(())
}

#[tokio::test]
async fn repeated_write_without_a_stamp_changes_nothing() -> anyhow::Result<()> {
    let (_bench, books) = books().await?;
    let id = insert(&books, "Emma", "a").await?;
    let call = Call::direct(None, ());
    let lent = async || anyhow::Ok(books.get(&id).await?.map(|found| found.value.lent));
    for (value, expected) in [(3, 3), (2, 3), (3, 3)] {
        books.raise(&id, "lent", value).await?;
        assert_eq!(lent().await?, Some(expected));
    }
    for expected in [true, false] {
        let replaced = books.replace(call.permit().await?, &id, "lent", 3, 7).await?;
        assert_eq!((replaced, lent().await?), (expected, Some(7)));
    }
    let shelf =
        doc! { "$set": { "title": "Sanditon", "shelf": "b", "lent": { "$max": ["$lent", 1] } } };
    for _ in 0..2 {
        books.upsert(call.permit().await?, "new", vec![shelf.clone()]).await?;
    }
    let found = books.many(["new", "none", id.as_str()]).await?;
    let titles: Vec<&str> = found.iter().map(|found| found.value.title.as_str()).collect();
    assert_eq!(titles.len(), 2, "{titles:?}");
    assert!(books.many([]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn pages_are_filtered_ordered_and_continued() -> anyhow::Result<()> {
    let (_bench, books) = books().await?;
    for (number, shelf) in ["a", "a", "a", "b"].into_iter().enumerate() {
        insert(&books, &number.to_string(), shelf).await?;
    }
    let on_a = || Page::of("shelf", "a");
    let first = books.page(on_a().limit(2)).await?;
    let last = first.last().map(|found| found.id.clone()).unwrap_or_default();
    let rest = books.page(on_a().after::<String>(&last)).await?;
    let mut ids: Vec<String> = first.into_iter().chain(rest).map(|found| found.id).collect();
    assert!(ids.len() == 3 && ids.is_sorted(), "{ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let newest = books.page(Page::all().newest_first()).await?;
    assert!(
        newest.len() == 4
            && newest.is_sorted_by(|newer, older| newer.created_at >= older.created_at)
    );
    let titles = books.page(Page::all().greater("title", "1").except::<String>(&last)).await?;
    assert!(titles.iter().all(|found| found.id != last && found.value.title.as_str() > "1"));
    Ok(())
}

#[tokio::test]
async fn invalid_document_fails_only_its_own_lookup() -> anyhow::Result<()> {
    let (_bench, books) = books().await?;
    let id = insert(&books, "Emma", "a").await?;
    let raw = books.untyped.collection().clone_with_type::<Document>();
    raw.insert_one(doc! { "_id": "broken", "title": 5 }).await?;
    let (found, broken) = tokio::join!(books.get(&id), books.get("broken"));
    assert_eq!(found?.map(|found| found.value), Some(book("Emma", "a")));
    assert!(matches!(broken, Err(Stop::Retry(_))), "{broken:?}");
    Ok(())
}

/// Longer than any change of a few documents.
const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn any_number_of_documents_is_changed_in_parts() -> anyhow::Result<()> {
    let (_bench, mut books) = books().await?;
    books.untyped.lists.part = 2;
    for number in 0..5 {
        insert(&books, &number.to_string(), "a").await?;
    }
    insert(&books, "other", "b").await?;
    let call = Call::direct(None, ());
    let on_a = Page::of("shelf", "a");
    let change = Change::set("lent", 1);
    let changed = books.for_each(&call, &on_a, &change);
    // Lists that contain changed documents would have no end.
    assert_eq!(tokio::time::timeout(TIMEOUT, changed).await??, 5);
    let lent = async || books.page(Page::all().equal("lent", 1)).await;
    assert_eq!(lent().await?.len(), 5);
    // A redelivery finishes the stored lists only.
    insert(&books, "later", "a").await?;
    assert_eq!(books.for_each(&call, &on_a, &change).await?, 5);
    assert_eq!(lent().await?.len(), 5);
    // The newest documents are skipped.
    let oldest = on_a.newest_first().skip(2);
    let call = Call::direct(None, ());
    assert_eq!(books.for_each(&call, &oldest, &Change::deletion()).await?, 4);
    assert_eq!(books.page(Page::of("shelf", "a")).await?.len(), 2);
    assert!(books.find("title", "later").await?.is_some());
    assert!(books.is_done(&call, &Page::all()).await?);
    assert!(!books.is_done(&Call::direct(None, ()), &Page::all()).await?);
    Ok(())
}

#[tokio::test]
async fn list_longer_than_an_operation_is_changed_to_its_end() -> anyhow::Result<()> {
    const COUNT: usize = 2 * lists::BATCH + 1;
    let (_bench, books) = books().await?;
    insert(&books, "0", "a").await?;
    let documents = books.untyped.collection().clone_with_type::<Document>();
    let one = documents.find_one(doc! {}).await?.unwrap();
    let more = (1..COUNT).map(|number| {
        let mut book = one.clone();
        book.insert("_id", format!("book {number}"));
        book.insert("title", number.to_string());
        book
    });
    documents.insert_many(more).await?;
    let call = Call::direct(None, ());
    let change = Change::set("lent", 1);
    assert_eq!(books.for_each(&call, &Page::of("shelf", "a"), &change).await?, COUNT);
    let lent = Page::all().equal("lent", 1);
    assert_eq!(books.count(&lent).await?, COUNT as u64);
    assert_eq!(books.count(&lent.clone().limit(3)).await?, 3);
    assert_eq!(books.count(&lent.clone().skip(COUNT - 1).limit(3)).await?, 1);
    assert_eq!(books.for_each(&Call::direct(None, ()), &lent, &Change::deletion()).await?, COUNT);
    assert_eq!(books.count(&Page::of("shelf", "a")).await?, 0);
    Ok(())
}
