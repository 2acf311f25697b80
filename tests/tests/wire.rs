//! The bus through a bare NATS client: injection, queries, manual completions and invalid messages.

use async_nats::HeaderMap;
use concert_tests::{Part, System, service_error};
use serde_json::{Value, json};
use uuid::Uuid;

const PASSWORD: &str = "correct horse battery";

fn once() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
    headers
}

async fn request(system: &System, subject: &str, body: &str) -> anyhow::Result<Value> {
    let answer = system.nats().await?.request(subject.to_owned(), body.to_owned().into()).await?;
    if let Some((_, error)) = service_error(&answer) {
        return Ok(json!({ "service error": error }));
    }
    Ok(serde_json::from_slice(&answer.payload)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_action_is_the_root_of_a_flow() -> anyhow::Result<()> {
    let system = System::start().await?;
    let ack = system
        .publish("action.Sessioning.delete", HeaderMap::new(), r#"{"session":"nobody's"}"#)
        .await?;
    assert_eq!(ack.get("stream"), Some(&json!("ACTIONS_Sessioning")));
    let done = system
        .until("the action is completed", async |system: &System| {
            Ok(system.stream_messages("COMPLETIONS", "done.*.Sessioning.delete.*").await?.pop())
        })
        .await?;
    let tokens: Vec<&str> = done.0.split('.').collect();
    assert_eq!(tokens[1], tokens[4], "a root's flow is its own id");
    assert_eq!(Uuid::parse_str(tokens[1])?.get_version_num(), 7);
    assert_eq!(done.1.pointer("/output/error"), Some(&json!("Session not found")));
    let sealed = done.1.pointer("/input/session").and_then(Value::as_str).unwrap();
    assert!(sealed.starts_with("sealed:") && !sealed.contains("nobody"), "{sealed}");

    // With an ID, and again: the second is rejected, or already done.
    let id = Uuid::now_v7();
    let subject = format!("action.Sessioning.create.{id}");
    system.publish(&subject, once(), r#"{"user":"u1"}"#).await?;
    system
        .until("the session is created", async |system: &System| {
            Ok((system.flow(&id.to_string()).await?.len() == 1).then_some(()))
        })
        .await?;
    system.publish(&subject, HeaderMap::new(), r#"{"user":"u2"}"#).await?;
    system.idle("Sessioning").await?;
    let flow = system.flow(&id.to_string()).await?;
    assert_eq!(flow.len(), 1);
    assert_eq!(flow[0].1.pointer("/input/user"), Some(&json!("u1")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn request_to_a_concept_returns_the_output() -> anyhow::Result<()> {
    let system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    let of_session = json!({ "session": session }).to_string();
    assert_eq!(
        request(&system, "concept.Sessioning._getUser", &of_session).await?,
        json!({ "rows": [{ "user": user }] })
    );
    assert_eq!(
        request(&system, "concept.Profile._getUserDetails", &json!({ "user": user }).to_string())
            .await?,
        json!({ "rows": [{ "username": "ada" }] })
    );
    assert_eq!(
        request(&system, "concept.Profile._getAllUsers", "{}").await?,
        json!({ "rows": [{ "id": user, "username": "ada" }] })
    );
    assert_eq!(request(&system, "concept.Sessioning.delete", &of_session).await?, json!({}));
    assert_eq!(
        request(&system, "concept.Sessioning.delete", &of_session).await?,
        json!({ "error": "Session not found" })
    );
    assert_eq!(
        request(&system, "concept.Sessioning._getUser", &of_session).await?,
        json!({ "rows": [] })
    );
    for (subject, body, expected) in [
        ("concept.Sessioning._getId", "{}", "`session` is missing"),
        (
            "concept.Sessioning._getUser",
            r#"{"session":{"$ne":null}}"#,
            "`session` must be a string of at most 43 characters",
        ),
        ("concept.Sessioning.delete", "[]", "expected a JSON object, found a list"),
        ("concept.Sessioning.delete", r#"{"session":"x","more":1}"#, "`more` is not a parameter"),
    ] {
        assert_eq!(
            request(&system, subject, body).await?,
            json!({ "service error": expected }),
            "{subject} {body}"
        );
    }

    // The account's other actions, with the application's messages.
    let change = |old: &str, new: &str| {
        json!({ "user": user, "oldPassword": old, "newPassword": new }).to_string()
    };
    for (old, new, expected) in [
        ("wrong horse", "another password", json!({ "error": "Incorrect old password." })),
        (PASSWORD, "short", json!({ "error": "New password must be at least 8 characters long." })),
        (
            PASSWORD,
            PASSWORD,
            json!({ "error": "New password cannot be the same as the old password." }),
        ),
        (PASSWORD, "another password", json!({ "user": user })),
    ] {
        assert_eq!(
            request(&system, "concept.Profile.changePassword", &change(old, new)).await?,
            expected
        );
    }
    assert_eq!(
        system
            .post("/auth/login", &json!({ "username": "ada", "password": PASSWORD }))
            .await?
            .status,
        401
    );
    system.login("ada", "another password").await?;
    let of_user = json!({ "user": user }).to_string();
    assert_eq!(request(&system, "concept.Profile.deleteAccount", &of_user).await?, json!({}));
    assert_eq!(
        request(&system, "concept.Profile.deleteAccount", &of_user).await?,
        json!({ "error": format!("User '{user}' not found.") })
    );
    assert_eq!(
        request(&system, "concept.Profile._getAllUsers", "{}").await?,
        json!({ "rows": [] })
    );
    assert_ne!(system.account("ada", PASSWORD).await?, user, "the name is free again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_as_micro_services() -> anyhow::Result<()> {
    let system = System::start().await?;
    let nats = system.nats().await?;
    for (concept, endpoints) in [
        (
            "Profile",
            vec![
                "_getAllUsers",
                "_getUserByName",
                "_getUserDetails",
                "authenticate",
                "changePassword",
                "confirmPassword",
                "createAccount",
                "deleteAccount",
                "disableAccount",
                "enableAccount",
            ],
        ),
        (
            "Sessioning",
            vec![
                "_getId",
                "_getNext",
                "_getPage",
                "_getSessions",
                "_getUser",
                "create",
                "delete",
                "deleteAll",
                "deleteById",
                "deleteOthers",
            ],
        ),
    ] {
        let info: Value = serde_json::from_slice(
            &nats.request(format!("$SRV.INFO.{concept}"), "".into()).await?.payload,
        )?;
        assert_eq!(info.get("type"), Some(&json!("io.nats.micro.v1.info_response")));
        let mut names: Vec<&str> = info["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|endpoint| endpoint["name"].as_str())
            .collect();
        names.sort_unstable();
        let expected: Vec<&str> = endpoints.iter().copied().chain(["query-batch"]).collect();
        assert_eq!(names, expected, "{concept}");
        let metadata = &info["metadata"];
        assert_eq!(metadata["concert-protocol"], "1", "{concept}");
        let hash = metadata["concert-spec"].as_str().unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
        assert!(metadata["concert-timeout-ms"].is_string(), "{concept}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_actions_complete_with_an_error_or_become_dead_letters() -> anyhow::Result<()> {
    let system = System::start().await?;
    let secret = "hunter22 is my password";
    for (subject, body) in [
        (
            "action.Profile.authentcate",
            json!({ "username": "ada", "password": secret }).to_string(),
        ),
        ("action.Profile.authenticate", json!({ "username": 5, "password": secret }).to_string()),
        (
            "action.Profile.authenticate",
            json!({ "username": "ada", "password": secret, "pasword": secret }).to_string(),
        ),
        ("action.Profile.authenticate", format!("not JSON: {secret}")),
    ] {
        system.publish(subject, HeaderMap::new(), &body).await?;
    }
    let done = system
        .until("all are completed", async |system: &System| {
            let mut found = system.stream_messages("COMPLETIONS", "done.>").await?;
            // The log also contains the router's records.
            found.retain(|(subject, _)| !subject.contains(".Concert."));
            Ok((found.len() == 4).then_some(found))
        })
        .await?;
    for (subject, body) in &done {
        assert_eq!(body.pointer("/output/fault"), Some(&json!("invalid")), "{subject} {body}");
        assert!(!body.to_string().contains("hunter22"), "{subject} {body}");
    }

    let mut bad_flow = HeaderMap::new();
    bad_flow.insert("Concert-Flow", "*");
    let mut old_flow = HeaderMap::new();
    old_flow.insert("Concert-Flow", "01890000-0000-7000-8000-000000000000");
    for (subject, headers) in [
        ("action.Profile.authenticate.not-a-uuid", HeaderMap::new()),
        ("action.Profile.authenticate.a.b", HeaderMap::new()),
        ("action.Profile.authenticate", bad_flow),
        ("action.Profile.authenticate", old_flow),
        ("done.not-a-uuid.Profile.authenticate.x", HeaderMap::new()),
    ] {
        system
            .publish(
                subject,
                headers,
                &json!({ "username": "ada", "password": secret }).to_string(),
            )
            .await?;
    }
    let dead = system
        .until("all are dead letters", async |system: &System| {
            // Four of the worker, and one of the router.
            let found = system.stream_messages("DEAD", "dead.>").await?;
            Ok((found.len() == 5).then_some(found))
        })
        .await?;
    let of_workers: Vec<&(String, Value)> =
        dead.iter().filter(|(subject, _)| subject.starts_with("dead.Profile.")).collect();
    assert_eq!(of_workers.len(), 4, "{dead:?}");
    assert!(of_workers.iter().all(|(_, body)| !body.to_string().contains("hunter22")), "{dead:?}");
    // A JetStream publish to an unknown concept is rejected.
    let unknown = system.publish("action.Nobody.does", HeaderMap::new(), "{}").await;
    assert!(unknown.is_err(), "{unknown:?}");
    // The system still works.
    system.account("ada", PASSWORD).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_action_of_requesting_is_refused_with_a_reason() -> anyhow::Result<()> {
    let system = System::start().await?;
    let reason = "an action of Requesting cannot be injected";
    for action in ["request", "respond"] {
        let subject = format!("action.Requesting.{action}");
        let refused = system.publish(&subject, HeaderMap::new(), "{}").await?;
        let description = refused.pointer("/error/description").and_then(Value::as_str);
        assert!(description.is_some_and(|why| why.starts_with(reason)), "{refused}");
        let refused = request(&system, &format!("concept.Requesting.{action}"), "{}").await?;
        let why = refused["service error"].as_str();
        assert!(why.is_some_and(|why| why.starts_with(reason)), "{refused}");
    }
    assert_eq!(system.subjects("COMPLETIONS", "done.*.Requesting.>").await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn respond_queued_by_an_earlier_router_is_completed() -> anyhow::Result<()> {
    use async_nats::jetstream::{consumer, stream};
    use futures_util::StreamExt as _;
    let mut system = System::start().await?;
    system.kill(Part::Router).await?;
    system.kill(Part::Profile).await?;
    // Earlier releases had a queue of Requesting.
    let setup = async_nats::jetstream::new(system.nats_as("setup").await?);
    let queue = setup
        .create_stream(stream::Config {
            name: "ACTIONS_Requesting".to_owned(),
            subjects: vec!["action.Requesting.>".to_owned()],
            retention: stream::RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        })
        .await?;
    let workers = consumer::pull::Config {
        durable_name: Some("workers".to_owned()),
        ..consumer::pull::Config::default()
    };
    queue.create_consumer(workers).await?;
    // The login gets no other response, because Profile is down.
    let mut roots = system.subscribe("done.*.Requesting.request.*").await?;
    let (address, body) = (system.address(), json!({ "username": "ada", "password": PASSWORD }));
    let login =
        tokio::spawn(
            async move { concert_tests::http::post(address, "/api/auth/login", &body).await },
        );
    let root = roots.next().await.unwrap();
    let flow = root.subject.split('.').nth(1).unwrap().to_owned();
    let mut headers = HeaderMap::new();
    headers.insert("Concert-Flow", flow.as_str());
    let input = json!({ "request": flow, "from": "the queue" }).to_string();
    let subject = || format!("action.Requesting.respond.{}", Uuid::now_v7());
    // Without the calling rule, it is an injected one.
    system.publish(&subject(), headers.clone(), &input).await?;
    headers.insert("Concert-Sync", "RespondToLogin");
    system.publish(&subject(), headers, &input).await?;
    system.start_part(Part::Router)?;
    let answer = login.await??;
    assert_eq!((answer.status, answer.text("from")?), (200, "the queue"));
    let dead = system
        .until("the injected respond is dead-lettered", async |system: &System| {
            Ok(system
                .header_values("DEAD", "dead.Requesting.respond", "Concert-Reason")
                .await?
                .pop())
        })
        .await?;
    assert!(format!("{dead:?}").contains("cannot be injected"), "{dead:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_nats_client_can_serve_as_a_worker() -> anyhow::Result<()> {
    use futures_util::StreamExt as _;
    let mut system = System::start().await?;
    system.kill(Part::Sessioning).await?;
    // A bare client replaces Sessioning: fetch, publish, acknowledge.
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let stream = jetstream.get_stream("ACTIONS_Sessioning").await?;
    let consumer: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("workers").await.map_err(|error| anyhow::anyhow!(error))?;
    let worker = async {
        let message = consumer
            .messages()
            .await?
            .next()
            .await
            .ok_or_else(|| anyhow::anyhow!("no message"))??;
        let tokens: Vec<String> = message.subject.split('.').map(str::to_owned).collect();
        let flow = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Concert-Flow"))
            .map(ToString::to_string)
            .unwrap_or_default();
        let input: Value = serde_json::from_slice(&message.payload)?;
        let body = json!({ "input": input, "output": { "error": "no sessions today" } });
        jetstream
            .publish_with_headers(
                format!("done.{flow}.{}.{}.{}", tokens[1], tokens[2], tokens[3]),
                once(),
                body.to_string().into(),
            )
            .await?
            .await?;
        message.ack().await.map_err(|error| anyhow::anyhow!(error))?;
        anyhow::Ok(())
    };
    let logout = json!({ "session": "anybody's" });
    let (worked, answer) = tokio::join!(worker, system.post("/auth/logout", &logout));
    worked?;
    assert_eq!(answer?.brief(), (404, r#"{"error":"no sessions today"}"#.to_owned()));
    Ok(())
}
