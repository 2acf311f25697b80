use std::collections::HashMap;

use concert_wire::id::ActionId;
use concert_wire::keyring::{Key, Keyring};
use concert_wire::large::{Place, Reference};
use serde_json::{Value, json};

use super::*;
use crate::concept::{Failure, QueryHandler};

const SPEC: &str = "concept Library [User]
purpose keep books
actions
    add (title: String) : ()
queries
    _count () : (count: Number)
    _key (lock: Secret) : (key: Secret)?
    _search (title?: String, tag?: String) : (title: String)*
    _newest (title?: String) : (title: String)
    _rows (rows: Any) : (title: String)*
    _one (rows: Any) : (title: String)
    _atMostOne (rows: Any) : (title: String)?
    _panics () : (title: String)*
    _waits () : (title: String)*
    _away () : (title: String)*
    _forges () : (title: String)*
";

/// Rows that `_rows` and similar queries return.
#[derive(serde::Deserialize)]
struct GivenRows {
    rows: Rows,
}

#[derive(serde::Deserialize)]
struct Locked {
    lock: String,
}

/// An input whose first key the spec declares as optional.
#[derive(serde::Deserialize)]
struct Search {
    #[expect(dead_code, reason = "only its presence matters")]
    title: String,
}

#[derive(serde::Deserialize)]
struct Nothing {}

/// A type that does not fit the input `()` of the spec.
#[derive(Debug, serde::Deserialize)]
struct Unfit {
    #[expect(dead_code, reason = "reading it always fails")]
    more: String,
}

/// A handler that may return what its spec does not allow.
fn handler<I, A>(answer: impl Fn(I) -> A + Copy + Send + Sync + 'static) -> QueryHandler
where
    I: serde::de::DeserializeOwned + Send,
    A: Future<Output = Result<Rows, Failure>> + Send,
{
    Box::new(move |query| {
        Box::pin(async move {
            let input = serde_json::from_value(Value::Object(query.input));
            let input = input.map_err(|error| Failure::Unreadable(error.to_string()))?;
            answer(input).await
        })
    })
}

fn library() -> Concept {
    let spec = concert_lang::concept::parse_one("Library.concept", SPEC).unwrap();
    let rows = || handler(async |given: GivenRows| Ok(given.rows));
    let queries = [
        ("_count", handler(async |_: Unfit| Ok(Vec::new()))),
        (
            "_key",
            handler(async |locked: Locked| {
                let key = (locked.lock == "front door")
                    .then(|| object(json!({ "key": "under the mat" })));
                Ok(key.into_iter().collect())
            }),
        ),
        ("_search", handler(async |_: Search| Ok(vec![object(json!({ "title": "Emma" }))]))),
        ("_newest", handler(async |_: Search| Ok(vec![object(json!({ "title": "Emma" }))]))),
        ("_rows", rows()),
        ("_one", rows()),
        ("_atMostOne", rows()),
        ("_panics", handler(async |_: Nothing| panic!("no library"))),
        ("_waits", handler(async |_: Nothing| std::future::pending().await)),
        ("_forges", handler(async |_: Nothing| Ok(vec![object(json!({ "title": reference() }))]))),
        (
            "_away",
            handler(async |_: Nothing| Err(Failure::Retry("the shelf is unavailable".to_owned()))),
        ),
    ];
    Concept {
        name: "Library".parse().unwrap(),
        spec,
        actions: HashMap::new(),
        queries: queries.map(|(name, handler)| (name.to_owned(), handler)).into(),
    }
}

fn sealer() -> Sealer {
    Sealer::new(Keyring::parse(&Key::new("k1", [3; 64]).to_line()).unwrap())
}

fn flow(n: u64) -> FlowId {
    ActionId::injected("S", n, 1).as_root()
}

fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

async fn asked(name: &str, input: &Value) -> Result<Value, QueryError> {
    let within = Duration::from_secs(5);
    let input = object(input.clone());
    let (concept, sealer) = (&library(), &sealer());
    let context = Context { concept, sealer, large: None, flow: flow(1) };
    let rows = ask(context, name, input, within, &Stopwatch::begin()).await?;
    Ok(json!(rows))
}

#[track_caller]
fn invalid(expected: &str) -> Result<Value, QueryError> {
    Err(QueryError::Invalid(expected.to_owned()))
}

#[tokio::test]
async fn secret_opens_in_its_flow_and_is_sealed_in_rows() {
    let sealed = |n, text: &str| json!({ "lock": sealer().seal(flow(n), text) });
    let key = Ok(json!([{ "key": sealer().seal(flow(1), "under the mat") }]));
    assert_eq!(asked("_key", &sealed(1, "front door")).await, key);
    assert_eq!(asked("_key", &json!({ "lock": "front door" })).await, key);
    assert_eq!(
        asked("_key", &sealed(2, "front door")).await,
        invalid("sealed for another flow, or altered")
    );
}

#[tokio::test]
async fn any_string_is_a_secret_except_an_invalid_seal() {
    let long = "x".repeat(32 * 1024);
    for bogus in ["", " ", "\0", "$ne", "\u{1F511}", long.as_str(), "sealed", "SEALED:k1:AAAA"] {
        assert_eq!(asked("_key", &json!({ "lock": bogus })).await, Ok(json!([])), "{:.20}", bogus);
        let sealed = sealer().seal(flow(1), bogus);
        assert_eq!(asked("_key", &json!({ "lock": sealed })).await, Ok(json!([])), "{:.20}", bogus);
    }
    let too_long = json!({ "lock": "x".repeat(32 * 1024 + 1) });
    assert_eq!(asked("_key", &too_long).await, invalid("`lock` must have at most 32768 bytes"));
    // The edge seals client input, even input in the form of a seal; here it is a plain text again.
    let copied = sealer().seal(flow(1), &sealer().seal(flow(2), "front door"));
    assert_eq!(asked("_key", &json!({ "lock": copied })).await, Ok(json!([])));
    for (garbage, why) in [
        ("sealed:", "not a sealed value"),
        ("sealed:k1:!!", "not a sealed value"),
        ("sealed:k1:AAAA", "not a sealed value"),
    ] {
        assert_eq!(asked("_key", &json!({ "lock": garbage })).await, invalid(why), "{garbage}");
    }
    // Its key may arrive later.
    let unknown = json!({ "lock": format!("sealed:k9:{}", "A".repeat(64)) });
    assert_eq!(asked("_key", &unknown).await, Err(QueryError::Locked));
}

#[tokio::test]
async fn absent_optional_key_that_the_handler_requires_gives_no_row() {
    let emma = Ok(json!([{ "title": "Emma" }]));
    assert_eq!(asked("_search", &json!({ "title": "Emma" })).await, emma);
    assert_eq!(asked("_search", &json!({})).await, Ok(json!([])));
    assert_eq!(asked("_search", &json!({ "tag": "new" })).await, Ok(json!([])));
    // A query of exactly one row cannot return none.
    assert!(matches!(asked("_newest", &json!({})).await, Err(QueryError::Broken(_))));
}

#[tokio::test]
async fn input_against_the_spec_is_an_invalid_request() {
    for (name, input, why) in [
        ("_key", json!({}), "`lock` is missing"),
        ("_key", json!({ "lock": 5 }), "`lock` must be a string"),
        ("_key", json!({ "lock": null }), "`lock` must be a string"),
        ("_key", json!({ "lock": { "$ne": null } }), "`lock` must be a string"),
        ("_key", json!({ "lock": "x", "more": 1 }), "`more` is not a parameter"),
        ("_keys", json!({}), "Library has no query `_keys`"),
        ("add", json!({}), "Library has no query `add`"),
    ] {
        assert_eq!(asked(name, &input).await, invalid(why), "{name} {input}");
    }
}

#[tokio::test]
async fn rows_against_the_spec_are_a_bug_of_the_worker() {
    let book = json!({ "title": "Emma" });
    for (name, count) in
        [("_rows", 0), ("_rows", 3), ("_one", 1), ("_atMostOne", 0), ("_atMostOne", 1)]
    {
        let rows = json!(vec![&book; count]);
        assert_eq!(asked(name, &json!({ "rows": rows })).await, Ok(rows), "{name} {count}");
    }
    for (name, rows, why) in [
        ("_one", json!([]), "_one returned 0 rows, which its spec does not allow"),
        ("_one", json!([book, book]), "_one returned 2 rows, which its spec does not allow"),
        (
            "_atMostOne",
            json!([book, book]),
            "_atMostOne returned 2 rows, which its spec does not allow",
        ),
        ("_rows", json!([book, {}]), "a row of _rows does not match its spec: `title` is missing"),
        (
            "_rows",
            json!([{ "title": 5 }]),
            "a row of _rows does not match its spec: `title` must be a string",
        ),
        (
            "_rows",
            json!([{ "title": "Emma", "shelf": 1 }]),
            "a row of _rows does not match its spec: `shelf` is not a parameter",
        ),
    ] {
        assert_eq!(
            asked(name, &json!({ "rows": rows })).await,
            Err(QueryError::Broken(why.to_owned())),
            "{name} {rows}"
        );
    }
    let unfit = asked("_count", &json!({})).await;
    assert!(matches!(unfit, Err(QueryError::Broken(_))), "{unfit:?}");
}

#[tokio::test(start_paused = true)]
async fn panic_is_permanent_and_unavailability_or_timeout_is_temporary() {
    let panicked = asked("_panics", &json!({})).await;
    assert!(
        matches!(&panicked, Err(QueryError::Broken(why)) if why.contains("_panics")),
        "{panicked:?}"
    );
    for (name, why) in
        [("_away", "the shelf is unavailable"), ("_waits", "_waits has no result yet")]
    {
        assert_eq!(asked(name, &json!({})).await, Err(QueryError::Unavailable(why.to_owned())));
    }
}

/// The text of a reference to a large value.
fn reference() -> String {
    Reference::to_text(Place::new([1; 16]), &"x".repeat(40_000)).to_string()
}

#[tokio::test]
async fn forged_reference_is_rejected_in_inputs_and_rows() {
    let input = json!({ "title": reference() });
    assert_eq!(asked("_search", &input).await, invalid(large::NOT_ACCEPTED));
    let rows = json!({ "rows": [{ "title": reference() }] });
    assert_eq!(asked("_rows", &rows).await, invalid(large::NOT_ACCEPTED));
    let broken = Err(QueryError::Broken(FORGED_REFERENCE.to_owned()));
    assert_eq!(asked("_forges", &json!({})).await, broken);
}
