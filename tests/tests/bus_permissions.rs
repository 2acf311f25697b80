//! Permissions of every NATS user, tried with a bare client under each user's key on a real server.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::client::{Client, RequestErrorKind};
use async_nats::jetstream;
use concert_tests::nats::{round_trip, subscribe};
use concert_tests::{Part, System};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use uuid::Uuid;

const PASSWORD: &str = "correct horse battery";
const SERVICES: [&str; 4] = ["edge", "router", "profile", "sessioning"];

/// A subject that a service may publish on.
fn own(user: &str) -> String {
    let id = Uuid::now_v7();
    match user {
        "edge" => format!("done.{id}.Requesting.request.{id}"),
        "router" => format!("done.{id}.Concert.fired.{id}"),
        "profile" => format!("done.{id}.Profile.deleteAccount.{id}"),
        _ => format!("done.{id}.Sessioning.deleteAll.{id}"),
    }
}

/// Subjects that it must not reach.
fn foreign(user: &str) -> Vec<String> {
    let id = Uuid::now_v7();
    let mut subjects = Vec::new();
    for (owner, concept, action) in [
        ("router", "Requesting", "respond"),
        ("router", "Concert", "fired"),
        ("profile", "Profile", "authenticate"),
        ("sessioning", "Sessioning", "create"),
    ] {
        if user == owner {
            continue;
        }
        subjects.push(format!("done.{id}.{concept}.{action}.{id}"));
        // Only the router may publish actions and queries.
        if user != "router" && owner != "router" {
            subjects.push(format!("action.{concept}.{action}.{id}"));
            subjects.push(format!("concept.{concept}.{action}"));
            subjects.push(format!("dead.{concept}.{action}"));
            subjects.push(format!("bus.API.CONSUMER.MSG.NEXT.ACTIONS_{concept}.workers"));
            subjects.push(format!("bus.API.STREAM.MSG.GET.ACTIONS_{concept}"));
            subjects.push(format!("$JS.ACK.ACTIONS_{concept}.workers.1.1.1.1.1"));
            subjects.push(format!("bus.API.$KV.concert_{concept}.last-attempt.{id}"));
        }
        if user != "router" && user != "edge" {
            subjects
                .push(format!("bus.API.DIRECT.GET.COMPLETIONS.done.{id}.{concept}.{action}.{id}"));
        }
    }
    for api in [
        "STREAM.CREATE.X",
        "STREAM.UPDATE.COMPLETIONS",
        "STREAM.UPDATE.ACTIONS_Profile",
        "STREAM.DELETE.DEAD",
        "STREAM.PURGE.ACTIONS_Profile",
        "STREAM.PURGE.KV_concert",
        "STREAM.NAMES",
        "STREAM.INFO.DEAD",
        "STREAM.MSG.GET.DEAD",
        "CONSUMER.CREATE.COMPLETIONS.x",
        "CONSUMER.CREATE.COMPLETIONS",
        "CONSUMER.CREATE.ACTIONS_Profile.workers",
        "CONSUMER.CREATE.ACTIONS_Profile.x",
        "CONSUMER.CREATE.KV_concert",
        "CONSUMER.DELETE.COMPLETIONS.routers",
    ] {
        subjects.push(format!("bus.API.{api}"));
    }
    if user != "router" {
        subjects.push("bus.API.STREAM.MSG.GET.COMPLETIONS".to_owned());
        subjects.push("bus.API.STREAM.PURGE.COMPLETIONS".to_owned());
        subjects.push("bus.API.CONSUMER.MSG.NEXT.COMPLETIONS.routers".to_owned());
        subjects.push("bus.API.$KV.concert.routes".to_owned());
        subjects.push("bus.API.$KV.concert.in-force".to_owned());
    }
    if user != "router" && user != "edge" {
        subjects.push("bus.API.DIRECT.GET.COMPLETIONS".to_owned());
        subjects.push("bus.API.DIRECT.GET.KV_concert.$KV.concert.routes".to_owned());
    }
    subjects
}

/// The names of the streams.
async fn streams(nats: &Client) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = jetstream::new(nats.clone()).stream_names().try_collect().await?;
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_known_key_are_rejected() -> anyhow::Result<()> {
    let system = System::start().await?;
    let url = system.servers.nats.url();
    let unknown = nkeys::KeyPair::new_user().seed()?;
    for options in [
        async_nats::ConnectOptions::new(),
        async_nats::ConnectOptions::with_nkey(unknown),
        async_nats::ConnectOptions::with_user_and_password("setup".to_owned(), "setup".to_owned()),
    ] {
        let refused = options.connect(&url).await;
        let kind = refused.map(drop).map_err(|error| error.kind());
        assert_eq!(kind, Err(async_nats::ConnectErrorKind::AuthorizationViolation));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn services_cannot_publish_on_foreign_subjects() -> anyhow::Result<()> {
    let system = System::start().await?;
    let nats = system.nats().await?;
    let before = streams(&nats).await?;
    for user in SERVICES {
        let client = system.nats_as(user).await?;
        let stored = client.request(own(user), r#"{"input":{},"output":{}}"#.into()).await?;
        let stored: Value = serde_json::from_slice(&stored.payload)?;
        assert_eq!(stored["stream"], "COMPLETIONS", "{user}: {stored}");
        for subject in foreign(user) {
            let answer = client.request(subject.clone(), "{}".into()).await;
            let kind = answer.map_err(|error| error.kind());
            // Edges subscribe to responses, so such a message reaches only them.
            let is_heard = user == "edge" && subject.contains(".Requesting.respond.");
            let expected = if is_heard && subject.starts_with("done.") {
                assert!(system.subjects("COMPLETIONS", &subject).await?.is_empty(), "{subject}");
                RequestErrorKind::TimedOut
            } else {
                RequestErrorKind::NoResponders
            };
            assert_eq!(kind.err(), Some(expected), "{user} on {subject}");
        }
        // The JetStream API that the server provides in every account reports that nothing exists.
        for api in ["STREAM.NAMES", "STREAM.INFO.COMPLETIONS", "STREAM.CREATE.X", "INFO"] {
            let answer = client.request(format!("$JS.API.{api}"), "{}".into()).await?;
            let answer: Value = serde_json::from_slice(&answer.payload)?;
            assert_eq!(answer["error"]["err_code"], 10039, "{user} on {api}: {answer}");
        }
    }
    assert_eq!(streams(&nats).await?, before);
    Ok(())
}

/// The server writes its reply to any subject that a request names, without a permission check.
/// This bypasses permissions within one account; it must not cross the borders of an account.
#[tokio::test(flavor = "multi_thread")]
async fn server_replies_cannot_bypass_publish_permissions() -> anyhow::Result<()> {
    let system = System::start().await?;
    let nats = system.nats().await?;
    // The router publishes its routes again when it reads its own activation.
    system.routed().await?;
    let routes = system.subjects("KV_concert", "$KV.concert.routes").await?.len();
    let before = streams(&nats).await?;
    let evil = |name: &str| json!({ "name": name, "subjects": [format!("{name}.>")] }).to_string();
    // Control: in the account of the streams, the attack works.
    let control = format!("done.{0}.Profile.deleteAccount.{0}", Uuid::now_v7());
    nats.request(control.clone(), evil("CONTROL").into()).await?;
    let get = format!("$JS.API.DIRECT.GET.COMPLETIONS.{control}");
    nats.publish_with_reply(get, "$JS.API.STREAM.CREATE.CONTROL", "".into()).await?;
    system
        .until("the attack works in the control", async |system: &System| {
            let names = streams(&system.nats().await?).await?;
            Ok(names.contains(&"CONTROL".to_owned()).then_some(()))
        })
        .await?;

    let victim = Uuid::now_v7();
    for user in SERVICES {
        let client = system.nats_as(user).await?;
        let subject = own(user);
        client.request(subject.clone(), evil("EVIL").into()).await?;
        let mut requests = vec![
            (own(user), evil("EVIL")),
            ("bus.API.STREAM.INFO.COMPLETIONS".to_owned(), String::new()),
        ];
        if user == "router" || user == "edge" {
            let read = json!({ "last_by_subj": subject }).to_string();
            requests.push(("bus.API.DIRECT.GET.COMPLETIONS".to_owned(), read));
        } else {
            requests.push((format!("bus.API.DIRECT.GET.COMPLETIONS.{subject}"), String::new()));
            let concept = if user == "profile" { "Profile" } else { "Sessioning" };
            requests.push((
                format!("bus.API.CONSUMER.MSG.NEXT.ACTIONS_{concept}.workers"),
                // A waiting request would lose the worker's next message, which the worker may do
                // to its own messages anyway.
                r#"{"batch":1,"no_wait":true}"#.to_owned(),
            ));
        }
        for answered_at in [
            format!("done.{victim}.Requesting.respond.{victim}"),
            format!("done.{victim}.Sessioning.create.{victim}"),
            format!("done.{victim}.Profile.authenticate.{victim}"),
            format!("action.Sessioning.create.{victim}"),
            format!("action.Profile.authenticate.{victim}"),
            "$KV.concert.routes".to_owned(),
            "$JS.API.STREAM.CREATE.EVIL".to_owned(),
            "$JS.API.STREAM.DELETE.DEAD".to_owned(),
            "$JS.API.STREAM.PURGE.COMPLETIONS".to_owned(),
            "bus.API.STREAM.CREATE.EVIL".to_owned(),
        ] {
            // A subject that the user may publish on anyway.
            let is_own = answered_at.contains(".Profile.") && user == "profile"
                || answered_at.contains(".Sessioning.") && user == "sessioning"
                || answered_at.contains(".Requesting.") && user == "router"
                || answered_at.starts_with("action.") && user == "router";
            if is_own {
                continue;
            }
            for (request, body) in &requests {
                client
                    .publish_with_reply(request.clone(), answered_at.clone(), body.clone().into())
                    .await?;
            }
        }
        round_trip(&client).await?;
    }
    round_trip(&nats).await?;
    let mut expected = before;
    expected.push("CONTROL".to_owned());
    expected.sort();
    assert_eq!(streams(&nats).await?, expected);
    // A message in a queue would be executed or dead-lettered by now.
    for concept in ["Profile", "Sessioning"] {
        system.idle(concept).await?;
    }
    for (stream, filter) in [
        ("COMPLETIONS", format!("done.{victim}.>")),
        ("COMPLETIONS", format!("done.*.*.*.{victim}")),
        ("DEAD", "dead.Profile.authenticate".to_owned()),
        ("DEAD", "dead.Sessioning.create".to_owned()),
    ] {
        let found = system.subjects(stream, &filter).await?;
        assert!(found.is_empty(), "{stream}: {found:?}");
    }
    let now = system.subjects("KV_concert", "$KV.concert.routes").await?.len();
    assert_eq!(now, routes);
    system.account("ada", PASSWORD).await?;
    system.login("ada", PASSWORD).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn service_receives_only_its_own_messages() -> anyhow::Result<()> {
    let system = System::start().await?;
    let names = [("edge", "Requesting"), ("profile", "Profile"), ("sessioning", "Sessioning")];
    let mut spies = Vec::new();
    for (user, own) in names {
        let client = system.nats_as(user).await?;
        spies.push((own, client.subscribe(">").await?, client));
    }
    for (_, _, client) in &spies {
        round_trip(client).await?;
    }
    system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    system.post("/auth/whoami", &json!({ "session": session })).await?;
    system.post("/auth/logout", &json!({ "session": session })).await?;
    system.routed().await?;
    for (own, mut received, client) in spies {
        round_trip(&client).await?;
        let mut subjects = Vec::new();
        while let Some(Some(message)) = received.next().now_or_never() {
            subjects.push(message.subject.to_string());
        }
        assert!(
            subjects.iter().any(|subject| subject.contains(&format!(".{own}."))),
            "{own}: {subjects:?}"
        );
        for (_, other) in names.into_iter().filter(|(_, other)| *other != own) {
            let others: Vec<_> =
                subjects.iter().filter(|subject| subject.contains(&format!(".{other}."))).collect();
            assert!(others.is_empty(), "{own} receives {others:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn server_confirms_progress_acks_within_a_workers_account() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    // The worker would fetch the message.
    system.kill(Part::Profile).await?;
    let subject = format!("action.Profile.deleteAccount.{}", Uuid::now_v7());
    let body = json!({ "user": "nobody" }).to_string();
    system.publish(&subject, HeaderMap::new(), &body).await?;
    let worker = system.nats_as("profile").await?;
    let inbox = worker.new_inbox();
    let mut delivered = worker.subscribe(inbox.clone()).await?;
    let next = "bus.API.CONSUMER.MSG.NEXT.ACTIONS_Profile.workers";
    // The request of the killed worker may be served first; that delivery expires after 8 s.
    let request = json!({ "batch": 1, "expires": 20_000_000_000_u64 }).to_string();
    worker.publish_with_reply(next, inbox, request.into()).await?;
    let message = tokio::time::timeout(Duration::from_secs(30), delivered.next()).await?;
    let message = message.context("no message is delivered")?;
    assert_eq!(message.subject.as_str(), subject);
    let reply = message.reply.context("the message cannot be acknowledged")?;
    worker.request(reply, "+WPI".into()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_can_inject_query_and_watch_but_change_nothing_else() -> anyhow::Result<()> {
    let system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    let operator = system.nats_as("operator").await?;
    let mut watched = subscribe(&operator, "done.>").await?;
    let pinged = operator.request("$SRV.PING.Profile", "".into()).await?;
    assert_eq!(serde_json::from_slice::<Value>(&pinged.payload)?["name"], "Profile");
    let asked = json!({ "session": session }).to_string();
    let rows = operator.request("concept.Sessioning._getUser", asked.clone().into()).await?;
    assert_eq!(
        serde_json::from_slice::<Value>(&rows.payload)?,
        json!({ "rows": [{ "user": user }] })
    );
    let output = operator.request("concept.Sessioning.delete", asked.clone().into()).await?;
    assert_eq!(serde_json::from_slice::<Value>(&output.payload)?, json!({}));
    let id = Uuid::now_v7();
    let injected = operator
        .request_with_headers(
            format!("action.Sessioning.delete.{id}"),
            HeaderMap::new(),
            asked.into(),
        )
        .await?;
    assert_eq!(serde_json::from_slice::<Value>(&injected.payload)?["stream"], "ACTIONS_Sessioning");
    let seen = async {
        while let Some(message) = watched.next().await {
            if message.subject.ends_with(&id.to_string()) {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), seen).await?);

    let nats = system.nats().await?;
    let (before, letters) = (streams(&nats).await?, "$JS.API.STREAM.DELETE.DEAD");
    let forged = format!("done.{id}.Profile.authenticate.{id}");
    for subject in [
        &*forged,
        letters,
        "$JS.API.STREAM.CREATE.X",
        "$JS.API.CONSUMER.DELETE.COMPLETIONS.routers",
        "$KV.concert.routes",
    ] {
        operator.publish(subject.to_owned(), "{}".into()).await?;
    }
    round_trip(&operator).await?;
    assert_eq!(streams(&nats).await?, before);
    assert!(system.subjects("COMPLETIONS", &forged).await?.is_empty());
    // The routers' consumer still exists.
    system.routed().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_without_a_bus_key_exit_with_a_reason() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.terminate(Part::Profile).await?;
    let refused = system.concert(&["worker", "Profile"]).env_remove("NATS_NKEY").output().await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("authorization violation"), "{said}");
    let missing =
        system.concert(&["worker", "Profile"]).env("NATS_NKEY", "/nowhere.nk").output().await?;
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        !missing.status.success() && said.contains("cannot read the NATS key file /nowhere.nk"),
        "{said}"
    );
    Ok(())
}
