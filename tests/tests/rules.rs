//! Rules with `where`, and rule changes, on the whole system.

use std::path::Path;
use std::time::Duration;

use concert_tests::nats::subscribe;
use concert_tests::{Part, System, http};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

/// One call for each user of a list, and a rule that joins two of the sessions.
const SIDE_BY_SIDE: &str = r#"
// allow C0501, C0502: this test has two siblings, and each of them succeeds
sync OpenForAll
when
    Requesting.request (path: "/openForAll", users) : (request)
where
    each user in users
    some Profile._getUserDetails (user)
then
    Sessioning.create (user)

sync RespondWithTwoSessions
when
    Requesting.request (path: "/openForAll", first, second) : (request)
    Sessioning.create (user: first) : (session: one)
    Sessioning.create (user: second) : (session: other)
then
    Requesting.respond (request, one, other)

// Nested lists; the inner list of an unknown user is empty.
sync NamesOf
when
    Requesting.request (path: "/namesOf", users) : (request)
where
    each user in users
    Profile._getUserDetails (user) : (username)
    collect username as names
    collect (user, names) as people
then
    Requesting.respond (request, people)

// The whole body is a list.
sync NameOf
when
    Requesting.request (path: "/nameOf", user) : (request)
where
    Profile._getUserDetails (user) : (username)
        else Requesting.respondWith (request, body: null, status: 404)
then
    Requesting.respondWith (request, body: [{account: {_id: user, username}}])
"#;

/// Replaces the rules that are added to the project's own rules in the same directory.
fn write_rules(dir: &Path, rules: &str) -> std::io::Result<()> {
    std::fs::write(dir.join("more.sync"), rules)
}

/// The whole system with the project's rules and write_rules ones, which can be changed in `dir`.
async fn with_rules(dir: &Path, more: &str) -> anyhow::Result<System> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../syncs");
    for file in std::fs::read_dir(own)? {
        let file = file?;
        std::fs::copy(file.path(), dir.join(file.file_name()))?;
    }
    write_rules(dir, more)?;
    let syncs = dir.display().to_string();
    System::with(&[
        ("CONCERT_RULES__SYNCS", &syncs),
        ("CONCERT_RULES__POLL_MS", "50"),
        ("CONCERT_HTTP__DEADLINE_MS", "40000"),
    ])
    .await
}

/// Starts a second router and waits until it runs: a starting router activates the rules it has
/// read, even if they have changed since.
async fn with_second_router(system: &mut System) -> anyhow::Result<()> {
    system.start_one(Part::Router, 1)?;
    system.ready().await
}

async fn whoami(system: &System, session: &str) -> anyhow::Result<http::Answer> {
    system.post("/auth/whoami", &json!({ "session": session })).await
}

fn records(flow: &[(String, Value)]) -> usize {
    flow.iter().filter(|(subject, _)| subject.contains(".Concert.fired.")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_routers_run_frames_and_join_siblings() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut system = with_rules(dir.path(), SIDE_BY_SIDE).await?;
    with_second_router(&mut system).await?;
    let (ada, bob) =
        (system.account("ada", PASSWORD).await?, system.account("bob", PASSWORD).await?);
    for round in 0..6 {
        if round == 3 {
            system.kill(Part::Router).await?;
        }
        let body = json!({ "users": [ada, bob, "nobody", ada], "first": ada, "second": bob });
        let opened = system.post("/openForAll", &body).await?;
        assert_eq!(opened.status, 200, "{opened:?}");
        let (one, other) = (opened.text("one")?, opened.text("other")?);
        assert_eq!(whoami(&system, one).await?.text("username")?, "ada");
        assert_eq!(whoami(&system, other).await?.text("username")?, "bob");
        let flow = opened.headers.get("concert-flow").unwrap().to_str()?.to_owned();
        let log = system.flow(&flow).await?;
        // One call for each frame; equal frames count as one.
        let created = log.iter().filter(|(subject, _)| subject.contains(".Sessioning.create."));
        assert_eq!((created.count(), records(&log)), (2, 1), "{log:#?}");
    }
    let people = system.post("/namesOf", &json!({ "users": [ada, "nobody"] })).await?;
    assert_eq!(
        people.body,
        json!({ "people": [{ "user": ada, "names": ["ada"] }, { "user": "nobody", "names": [] }] })
    );
    let account = json!([{ "account": { "_id": ada, "username": "ada" } }]);
    for (user, status, body) in [(ada.as_str(), 200, account), ("nobody", 404, Value::Null)] {
        let headers = [("content-type", "application/json"), ("idempotency-key", user)];
        // The second response is that of the log.
        for _ in 0..2 {
            let asked = json!({ "user": user }).to_string().into_bytes();
            let named = http::post_with(system.address(), "/api/nameOf", asked, &headers).await?;
            assert_eq!((named.status, &named.body), (status, &body));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_query_is_repeated_and_never_answered_wrongly() -> anyhow::Result<()> {
    let mut system = System::with(&[
        ("CONCERT_HTTP__DEADLINE_MS", "40000"),
        ("CONCERT_ROUTER__QUERY_TIMEOUT_MS", "300"),
    ])
    .await?;
    system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    system.kill(Part::Sessioning).await?;
    let mut asked = system.subscribe("done.*.Requesting.request.*").await?;
    let body = json!({ "session": session });
    let address = system.address();
    let waiting = tokio::spawn(async move { http::post(address, "/api/auth/whoami", &body).await });
    tokio::time::timeout(Duration::from_secs(30), asked.next()).await?;
    system.start_part(Part::Sessioning)?;
    let answer = waiting.await??;
    assert_eq!((answer.status, answer.text("username")?), (200, "ada"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn router_killed_around_its_firing_record_leaves_one_response() -> anyhow::Result<()> {
    let mut system = System::with(&[("CONCERT_HTTP__DEADLINE_MS", "40000")]).await?;
    system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    for subject in [
        "done.*.Requesting.request.*",
        "concept.Sessioning._getUser",
        "concept.Profile._getUserDetails",
        "done.*.Concert.fired.*",
        "done.*.Requesting.respond.*",
    ] {
        // Queries are visible only in the concept's own account.
        let asked = subject.strip_prefix("concept.").and_then(|rest| rest.split('.').next());
        let nats = match asked {
            Some(concept) => system.nats_as(&concept.to_lowercase()).await?,
            None => system.nats().await?,
        };
        let mut seen = subscribe(&nats, subject).await?;
        let body = json!({ "session": session });
        let address = system.address();
        let waiting =
            tokio::spawn(async move { http::post(address, "/api/auth/whoami", &body).await });
        let seen = tokio::time::timeout(Duration::from_secs(30), seen.next()).await;
        assert!(matches!(seen, Ok(Some(_))), "no message on {subject}");
        system.kill(Part::Router).await?;
        system.start_part(Part::Router)?;
        let answer = waiting.await??;
        assert_eq!((answer.status, answer.text("username")?), (200, "ada"), "{subject}");
        let flow = answer.headers.get("concert-flow").unwrap().to_str()?.to_owned();
        let log = system.flow(&flow).await?;
        let responds = log.iter().filter(|(subject, _)| subject.contains(".respond.")).count();
        assert_eq!((records(&log), responds), (1, 1), "{subject}: {log:#?}");
    }
    Ok(())
}

fn greeting(word: &str) -> String {
    format!(
        r#"
sync Greet
when
    Requesting.request (path: "/greet", username, password) : (request)
then
    Profile.authenticate (username, password)
    Requesting.respond (request, greeting: "{word}")
else (error)
    Requesting.respond (request, error)
"#
    )
}

/// Waits until rules were activated this often.
async fn activated(system: &System, times: usize) -> anyhow::Result<()> {
    system
        .until("the rules are active", async |system: &System| {
            let found = system.stream_messages("COMPLETIONS", "done.*.Concert.inForce.*").await?;
            anyhow::ensure!(found.len() <= times, "more than {times} times: {found:#?}");
            Ok((found.len() == times).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_finishes_under_the_rules_it_started_with() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut system = with_rules(dir.path(), &greeting("hello")).await?;
    with_second_router(&mut system).await?;
    system.account("ada", PASSWORD).await?;
    let body = json!({ "username": "ada", "password": PASSWORD });
    assert_eq!(system.post("/greet", &body).await?.text("greeting")?, "hello");

    // A flow that cannot continue until its rules have changed.
    system.kill(Part::Profile).await?;
    let mut seen = system.subscribe("action.Profile.authenticate.*").await?;
    let (address, again) = (system.address(), body.clone());
    let waiting = tokio::spawn(async move { http::post(address, "/api/greet", &again).await });
    tokio::time::timeout(Duration::from_secs(30), seen.next()).await?;
    write_rules(dir.path(), &greeting("good day"))?;
    activated(&system, 2).await?;
    // Invalid rules change nothing.
    write_rules(dir.path(), "sync Broken\n")?;
    system.start_part(Part::Profile)?;
    let answer = waiting.await??;
    assert_eq!(answer.text("greeting")?, "hello");
    assert_eq!(system.post("/greet", &body).await?.text("greeting")?, "good day");

    // The routers that know the old rules stop. A router that starts with the newest rules finishes
    // flows of older ones.
    write_rules(dir.path(), &greeting("good evening"))?;
    activated(&system, 3).await?;
    assert_eq!(system.post("/greet", &body).await?.text("greeting")?, "good evening");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn router_fetches_a_missing_rule_version() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut system = with_rules(dir.path(), &greeting("hello")).await?;
    system.account("ada", PASSWORD).await?;
    system.kill(Part::Profile).await?;
    let mut seen = system.subscribe("action.Profile.authenticate.*").await?;
    let body = json!({ "username": "ada", "password": PASSWORD });
    let (address, again) = (system.address(), body.clone());
    let waiting = tokio::spawn(async move { http::post(address, "/api/greet", &again).await });
    tokio::time::timeout(Duration::from_secs(30), seen.next()).await?;
    system.kill(Part::Router).await?;
    write_rules(dir.path(), &greeting("good day"))?;
    system.start_part(Part::Router)?;
    system.start_part(Part::Profile)?;
    assert_eq!(waiting.await??.text("greeting")?, "hello");
    assert_eq!(system.post("/greet", &body).await?.text("greeting")?, "good day");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_keys_of_the_bucket_are_repaired_at_the_next_start() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    for part in [Part::Router, Part::Edge] {
        system.kill(part).await?;
    }
    let bucket = async_nats::jetstream::new(system.nats().await?).get_key_value("concert").await?;
    for key in ["in-force", "routes"] {
        bucket.put(key, "{damaged".into()).await?;
    }
    for part in [Part::Router, Part::Edge] {
        system.start_part(part)?;
    }
    system.ready().await?;
    system.login("ada", PASSWORD).await?;
    let history = bucket.get("in-force").await?.unwrap_or_default();
    let history: Vec<Value> = serde_json::from_slice(&history)?;
    assert_eq!(history.len(), 1, "{history:?}");
    Ok(())
}
