//! Values that do not fit into a message, on the whole system (ADR 38).

use std::time::Duration;

use async_nats::jetstream;
use concert_tests::files::files_with;
use concert_tests::{Load, Part, System, http};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::archive::queries::flows;
use crate::archive::secrets::stored;
use crate::reader::{PASSWORD, Reader};

/// The responses need no worker.
const RULES: &str = r#"
sync Echo
when
    Requesting.request (path: "/echo", text) : (request)
then
    Requesting.respond (request, text)

sync EchoInList
when
    Requesting.request (path: "/list", text) : (request)
then
    Requesting.respondWith (request, body: [{text}, "-", text])

// No value has this reference.
sync RespondWithExpired
when
    Requesting.request (path: "/expired") : (request)
then
    Requesting.respond (
        request,
        text: "large:AAAAAAAAAAAAAAAAAAAAAA:40000:" +
            "0000000000000000000000000000000000000000000000000000000000000000",
    )
"#;

const MIB: usize = 1024 * 1024;
/// A debug build needs a second of CPU for 2 MB.
const SLOW: [(&str, &str); 2] =
    [("CONCERT_HTTP__DEADLINE_MS", "55000"), ("CONCERT_WORKERS__REQUEST_TIMEOUT_MS", "50000")];
/// Held by the tests that need the CPU for many seconds, so that they do not slow each other down.
static BUSY: Mutex<()> = Mutex::const_new(());

async fn system(settings: &[(&'static str, &str)]) -> anyhow::Result<(System, tempfile::TempDir)> {
    let rules = tempfile::tempdir()?;
    std::fs::write(rules.path().join("large.sync"), RULES)?;
    let syncs = rules.path().display().to_string();
    let mut all = vec![("CONCERT_RULES__SYNCS", &*syncs)];
    all.extend_from_slice(settings);
    Ok((System::with(&all).await?, rules))
}

/// A text that JSON escapes in places.
fn text(bytes: usize) -> String {
    let part = "QmFzZTY0IG9mIGEgYm9vaw\n\"é€";
    let mut text = part.repeat(bytes / part.len());
    text.push_str(&"x".repeat(bytes - text.len()));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn book_of_23_mib_reaches_the_library_and_comes_back_equal() -> anyhow::Result<()> {
    let _alone = BUSY.lock().await;
    let system = System::reader(&SLOW).await?;
    let ada = Reader::sign_up(&system, "ada").await?;
    let content = text(23 * MIB);
    let made = ada.upload_content("Large", &content).await?;
    assert_eq!(made.status, 200, "{:.300}", made.body.to_string());
    let id = made.text("document")?;
    let rows = json!([{ "document": { "_id": id, "name": "Large", "epubContent": content } }]);
    let (library, document) = (json!({ "library": ada.library }), json!({ "document": id }));
    let (list, open) = ("/Library/_getDocumentsInLibrary", "/Library/_getDocumentDetails");
    for (path, body) in [(list, &library), (open, &document)] {
        let shown = ada.post(path, body.clone()).await?;
        assert!(shown.status == 200 && shown.body == rows, "{path}: {}", shown.status);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_ten_concurrent_uploads_are_answered() -> anyhow::Result<()> {
    let _alone = BUSY.lock().await;
    let system = System::reader(&SLOW).await?;
    let ada = Reader::sign_up(&system, "ada").await?;
    // Logins end the oldest sessions of their user.
    Reader::sign_up(&system, "bob").await?;
    let address = system.address();
    let mut logins = Load::begin(1, |_, rounds| async move {
        let credentials = json!({ "username": "bob", "password": PASSWORD });
        while rounds.continues() {
            let login = http::post(address, "/api/auth/login", &credentials).await?;
            anyhow::ensure!(login.status == 200, "{login:?}");
            rounds.done();
        }
        Ok(())
    });
    let names: Vec<String> = (0..10).map(|number| format!("Book {number}")).collect();
    let content = |name: &str| format!("{name} {}", text(3_000_000));
    let uploads = join_all(names.iter().map(async |name| {
        let made = ada.upload_content(name, &content(name)).await?;
        assert_eq!(made.status, 200, "{:.300}", made.body.to_string());
        Ok::<_, anyhow::Error>(made.text("document")?.to_owned())
    }));
    let ids: Vec<String> = uploads.await.into_iter().collect::<Result<_, _>>()?;
    logins.wait_for_progress(Duration::from_secs(60)).await?;
    logins.end().await?;
    // Debug builds take a second for each.
    for (name, id) in names.iter().zip(&ids).skip(8) {
        let record = json!({ "_id": id, "name": name, "epubContent": content(name) });
        let shown = ada.post("/Library/_getDocumentDetails", json!({ "document": id })).await?;
        assert!(shown.body == json!([{ "document": record }]), "{name}: {}", shown.status);
    }
    Ok(())
}

async fn blobs(system: &System) -> anyhow::Result<u64> {
    let mut stream = jetstream::new(system.nats().await?).get_stream("BLOBS").await?;
    Ok(stream.info().await?.state.messages)
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_come_back_equal_and_edge_keeps_little_memory() -> anyhow::Result<()> {
    let (system, _rules) = system(&[]).await?;
    for bytes in [40_000, 3_000_000, 23 * MIB] {
        let text = text(bytes);
        let answer = system.post("/echo", &json!({ "text": text })).await?;
        assert_eq!(answer.status, 200, "{:.300}", answer.body.to_string());
        assert!(answer.body == json!({ "text": text }), "{bytes}");
        let length: usize = answer.headers["content-length"].to_str()?.parse()?;
        assert_eq!(length, json!({ "text": text }).to_string().len());
    }
    let deep = text(100_000);
    let answer = system.post("/list", &json!({ "text": { "deep": [deep] } })).await?;
    let echoed = json!({ "deep": [deep] });
    assert!(answer.body == json!([{ "text": echoed }, "-", echoed]));
    let kib = system.resident_kib(Part::Edge)?;
    assert!(kib < 150 * 1024, "{kib} KiB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn repetition_stores_a_value_once_and_log_and_archive_have_no_content() -> anyhow::Result<()>
{
    let (mut system, _rules) = system(&[]).await?;
    system.start_part(Part::Archive)?;
    let marker = "MarkerOfTheContent";
    let body = json!({ "text": marker.repeat(50_000) }).to_string().into_bytes();
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    let post = || http::post_with(system.address(), "/api/echo", body.clone(), &headers);
    let first = post().await?;
    assert_eq!(first.status, 200, "{:.300}", first.body.to_string());
    let once = blobs(&system).await?;
    let second = post().await?;
    assert_eq!(second.headers["concert-flow"], first.headers["concert-flow"]);
    assert!(second.body == first.body);
    assert_eq!(blobs(&system).await?, once);
    // Another request has another place.
    let other = system.post("/echo", &json!({ "text": marker.repeat(50_000) })).await?;
    assert_eq!(other.status, 200);
    assert_eq!(blobs(&system).await?, 2 * once);

    let small = system.post("/echo", &json!({ "text": "AnotherMarker" })).await?;
    assert_eq!(small.status, 200);
    // The archive reads flows in the order of the log.
    flows(&system, &json!({ "path": "/echo" }), 3).await?;
    let archived = stored(&system).await?;
    assert!(archived.contains("AnotherMarker") && !archived.contains(marker));
    let log = system.servers.dir().join("nats");
    let has = |text: &str| files_with(&log, text, &mut 0).map(|files| !files.is_empty());
    assert!(has("AnotherMarker")?, "the search finds what the log contains");
    assert!(!has(marker)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_alike_and_expired_values_are_refused() -> anyhow::Result<()> {
    let (system, _rules) = system(&[("CONCERT_HTTP__LARGE_VALUE_LIMIT_BYTES", "1000000")]).await?;
    let check = async |path: &str, text: Value, status: u16, error: &str| {
        let answer = system.post(path, &json!({ "text": text })).await?;
        assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(error)));
        anyhow::Ok(())
    };
    check("/echo", json!("x".repeat(1_000_001)), 413, "`text` is larger than 1000000 bytes")
        .await?;
    // Refused before it is read.
    let head = format!(
        "POST /api/echo HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{{",
        65 * MIB
    );
    let refused = http::raw(system.address(), head.as_bytes()).await?;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    let digest = "0".repeat(64);
    let look_alike = json!([format!("large:{}:40000:{digest}", "A".repeat(22))]);
    let refused = "`text` must not have the form of a reference to a large value";
    check("/echo", look_alike.clone(), 400, refused).await?;
    check("/echo", json!([look_alike, "x".repeat(40_000)]), 400, refused).await?;
    let expired = "the response contains a large value that has expired";
    check("/expired", json!(""), 410, expired).await?;
    // A key that no rule names is neither stored nor refused.
    let before = blobs(&system).await?;
    let unknown = json!({ "text": "small", "other": "x".repeat(900_000) });
    let answer = system.post("/echo", &unknown).await?;
    assert_eq!(answer.brief(), (200, r#"{"text":"small"}"#.to_owned()));
    assert_eq!(blobs(&system).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn full_storage_refuses_large_values_only() -> anyhow::Result<()> {
    let settings = [
        ("CONCERT_LOG__LARGE_VALUES_MAX_BYTES", "1000000"),
        ("CONCERT_HTTP__CLIENT_LARGE_VALUES_PERCENT", "100"),
    ];
    let (system, _rules) = system(&settings).await?;
    let full = system.post("/echo", &json!({ "text": text(3_000_000) })).await?;
    let error = "the storage for large values is full; retry later";
    assert_eq!((full.status, full.body["error"].as_str()), (503, Some(error)));
    assert_eq!(full.headers["retry-after"], "1");
    let small = system.post("/echo", &json!({ "text": "small" })).await?;
    assert_eq!(small.brief(), (200, r#"{"text":"small"}"#.to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn client_stores_only_its_part_of_the_large_values() -> anyhow::Result<()> {
    let (system, _rules) = system(&[
        ("CONCERT_HTTP__TRUSTED_PROXIES", "127.0.0.0/8"),
        ("CONCERT_LOG__LARGE_VALUES_MAX_BYTES", "10000000"),
        ("CONCERT_HTTP__CLIENT_LARGE_VALUES_PERCENT", "1"),
    ])
    .await?;
    let post = async |client: &str, bytes: usize| {
        let headers = [("content-type", "application/json"), ("x-forwarded-for", client)];
        let body = json!({ "text": text(bytes) }).to_string().into_bytes();
        http::post_with(system.address(), "/api/echo", body, &headers).await
    };
    assert_eq!(post("192.0.2.1", 60_000).await?.status, 200);
    let refused = post("192.0.2.1", 60_000).await?;
    // 49 hours, and the hour in which the values are added up.
    let error = "this client has stored too many large values; retry in 180000 s";
    assert_eq!((refused.status, refused.body["error"].as_str()), (429, Some(error)));
    assert_eq!(refused.headers["retry-after"], "180000");
    assert_eq!(post("192.0.2.1", 1000).await?.status, 200);
    assert_eq!(post("192.0.2.2", 60_000).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_and_queries_without_a_rule_have_large_values() -> anyhow::Result<()> {
    let exposed = r#"{
        "Library.createDocument" = "used by the test",
        "Library._getDocumentDetails" = "used by the test",
        "Library._getDocumentByName" = "used by the test",
    }"#;
    let system = System::reader(&[("CONCERT_HTTP__PASSTHROUGH", exposed)]).await?;
    let ada = Reader::sign_up(&system, "ada").await?;
    for bytes in [40_000, 400_000] {
        let (name, content) = (format!("{bytes}"), text(bytes));
        let book = json!({ "name": name, "epubContent": content, "library": ada.library });
        let made = system.post("/Library/createDocument", &book).await?;
        assert_eq!(made.status, 200, "{:.300}", made.body.to_string());
        assert_eq!(made.headers["concert-answered-by"], "concept");
        let document = json!({ "document": made.text("document")? });
        let shown = system.post("/Library/_getDocumentDetails", &document).await?;
        assert!(shown.body["rows"][0]["document"]["epubContent"] == content, "{}", shown.status);
    }
    // The edge resolves nothing, so the worker counts the characters.
    let long = json!({ "library": ada.library, "name": text(40_000) });
    let refused = system.post("/Library/_getDocumentByName", &long).await?;
    let error = "`name` must be a string of at most 255 characters";
    assert_eq!((refused.status, refused.body["error"].as_str()), (400, Some(error)));
    Ok(())
}
