//! What the archive keeps and answers: hot flows, flows that have gone from the log, and whatever happens to it meanwhile.

#![expect(clippy::indexing_slicing, reason = "an answer without these members fails the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap;
use concert_tests::moody::{self, Moody};
use concert_tests::{Part, System, http, refusal};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

const PASSWORD: &str = "correct horse battery";

/// Asks the archive, as the operator.
async fn ask(system: &System, query: &str, input: &Value) -> anyhow::Result<Vec<Value>> {
    let operator = system.nats_as("operator").await?;
    let subject = format!("concept.Concert.{query}");
    let answer = operator.request(subject, input.to_string().into()).await?;
    if let Some((_, error)) = refusal(&answer) {
        anyhow::bail!("{query}: {error}");
    }
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    Ok(answer["rows"].as_array().context("no rows")?.clone())
}

async fn flow(system: &System, flow: &str) -> anyhow::Result<Value> {
    ask(system, "_flow", &json!({ "flow": flow }))
        .await?
        .pop()
        .context("there is no such flow")
}

/// Waits until so many flows fit a filter; the rows.
async fn flows(system: &System, filter: &Value, count: usize) -> anyhow::Result<Vec<Value>> {
    system
        .until("the flows are archived", async |system: &System| {
            let rows = ask(system, "_flows", filter).await?;
            Ok((rows.len() >= count).then_some(rows))
        })
        .await
}

async fn with_archive() -> anyhow::Result<System> {
    let mut system = System::start().await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    Ok(system)
}

/// Waits until an archive answers.
async fn answers(system: &System) -> anyhow::Result<()> {
    system
        .until("the archive answers", async |system: &System| {
            Ok(ask(system, "_rules", &json!({})).await.ok().map(drop))
        })
        .await
}

/// The flow of a request.
async fn post(system: &System, path: &str, status: u16, body: &Value) -> anyhow::Result<String> {
    let answer = system.post(path, body).await?;
    anyhow::ensure!(answer.status == status, "{answer:?}");
    Ok(answer.headers["concert-flow"].to_str()?.to_owned())
}

/// Lets the log go by its age, as it does in the night.
async fn let_the_log_age(system: &System) -> anyhow::Result<()> {
    system.routed().await?;
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let log = jetstream.get_stream("COMPLETIONS").await?;
    let config = log.cached_info().config.clone();
    let mut short = config.clone();
    (short.max_age, short.duplicate_window) = (Duration::from_secs(2), Duration::from_secs(2));
    jetstream.update_stream(short).await?;
    system
        .until("the log has let everything go", async |_: &System| {
            let log = jetstream.get_stream("COMPLETIONS").await?;
            Ok((log.cached_info().state.messages == 0).then_some(()))
        })
        .await?;
    jetstream.update_stream(config).await?;
    Ok(())
}

/// Lets the log go at once.
async fn empty_the_log(system: &System) -> anyhow::Result<()> {
    system.routed().await?;
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    jetstream.get_stream("COMPLETIONS").await?.purge().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_is_told_alike_from_the_log_and_from_the_archive() -> anyhow::Result<()> {
    let system = with_archive().await?;
    system.account("ada", PASSWORD).await?;
    let good = json!({ "username": "ada", "password": PASSWORD });
    let bad = json!({ "username": "ada", "password": "wrong horse battery" });
    let well = post(&system, "/auth/login", 200, &good).await?;
    let failed = post(&system, "/auth/login", 401, &bad).await?;
    let rows = flows(&system, &json!({ "path": "/auth/login" }), 2).await?;
    let listed: Vec<_> = rows
        .iter()
        .map(|row| (&row["flow"], &row["outcome"], &row["answered_by"]))
        .collect();
    assert_eq!(
        listed,
        [
            (
                &json!(failed),
                &json!("failed"),
                &json!("RespondToFailedAuthentication")
            ),
            (
                &json!(well),
                &json!("succeeded"),
                &json!("CreateSessionOnSuccessfulAuthentication")
            ),
        ]
    );
    assert_eq!(rows[0]["error"], "Invalid username or password.");
    let hot = [flow(&system, &well).await?, flow(&system, &failed).await?];
    for told in &hot {
        assert_eq!(told["source"], "log");
        let text = told.to_string();
        assert!(text.contains("sealed:") && !text.contains("horse"), "{text}");
    }
    let why = json!({ "flow": failed, "sync": "CreateSessionOnSuccessfulAuthentication" });
    let hot_why = ask(&system, "_whyNot", &why).await?;
    assert_eq!(hot_why[0]["failed"]["key"], "user");
    assert_eq!(
        hot[1]["near_misses"][0]["sync"],
        "CreateSessionOnSuccessfulAuthentication"
    );

    let_the_log_age(&system).await?;
    assert!(system.flow(&well).await?.is_empty());
    for (id, mut hot) in [&well, &failed].into_iter().zip(hot) {
        hot["source"] = json!("archive");
        assert_eq!(flow(&system, id).await?, hot);
    }
    assert_eq!(ask(&system, "_whyNot", &why).await?, hot_why);
    let nobody = ask(
        &system,
        "_flow",
        &json!({ "flow": "01890a5d-ac96-774b-bcce-b302099a8057" }),
    )
    .await?;
    assert!(nobody.is_empty());
    for (query, input) in [
        ("_flow", json!({ "flow": "x" })),
        ("_flow", json!({})),
        ("_flows", json!({ "limit": 501 })),
        ("_flows", json!({ "text": "x".repeat(201) })),
        ("_flows", json!({ "text": "\u{0}" })),
        ("_flows", json!({ "before": "x" })),
        ("_flows", json!({ "outcome": "well" })),
        ("_flows", json!({ "paths": "/auth/login" })),
        ("_whyNot", json!({ "flow": failed, "sync": "Nothing" })),
    ] {
        assert!(ask(&system, query, &input).await.is_err(), "{query} {input}");
    }
    Ok(())
}

/// What a command prints, or why it fails.
async fn concert(system: &System, args: &[&str]) -> anyhow::Result<String> {
    let done = system.command("concert").args(args).output().await?;
    let said = String::from_utf8([done.stdout, done.stderr].concat())?;
    anyhow::ensure!(done.status.success(), "{said}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_tell_what_happened() -> anyhow::Result<()> {
    let mut system = with_archive().await?;
    system.account("ada", PASSWORD).await?;
    let bad = json!({ "username": "ada", "password": "wrong horse battery" });
    let failed = post(&system, "/auth/login", 401, &bad).await?;
    flows(&system, &json!({ "path": "/auth/login" }), 1).await?;
    let tree = concert(&system, &["flow", &failed]).await?;
    for part in [
        "failed 401",
        "answered by RespondToFailedAuthentication",
        "└─ Profile.authenticate  refused: Invalid username or password.",
        "CreateSessionOnSuccessfulAuthentication stopped at Profile.authenticate () : (user)",
    ] {
        assert!(tree.contains(part), "{part}\n{tree}");
    }
    assert!(!tree.contains('\u{1b}') && !tree.contains("horse"), "{tree}");
    let told: Value = serde_json::from_str(&concert(&system, &["flow", &failed, "--json"]).await?)?;
    assert_eq!(told, flow(&system, &failed).await?);
    let list = concert(&system, &["flows", "--failed", "--since", "10m", "--json"]).await?;
    let rows: Vec<Value> = list.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!((rows.len(), &rows[0]["flow"]), (1, &json!(failed)));
    let none = concert(&system, &["flows", "--path", "/auth/logout"]).await?;
    assert_eq!(none, "no flows\n");
    let found = concert(&system, &["flows", "--text", "INVALID username", "--json"]).await?;
    assert_eq!(found, list);
    let why = concert(&system, &["why-not", &failed, "RespondToFailedLogout"]).await?;
    assert!(
        why.contains("`path` of Requesting.request is \"/auth/login\", not \"/auth/logout\""),
        "{why}"
    );
    let wrong = concert(&system, &["why-not", &failed, "RespondToFailedLogin"]).await;
    assert!(wrong.is_err_and(|said| said.to_string().contains("did you mean `RespondToFailedLogout`?")));
    let nobody = concert(&system, &["flow", "01890a5d-ac96-774b-bcce-b302099a8057"]).await;
    assert!(nobody.is_err_and(|said| said.to_string().contains("there is no flow")));
    system.terminate(Part::Archive).await?;
    let silent = concert(&system, &["flows"]).await;
    assert!(silent.is_err_and(|said| said.to_string().contains("no archive answers")));
    for shell in ["bash", "zsh", "fish"] {
        assert!(concert(&system, &["completions", shell]).await?.contains("why-not"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_are_listed_by_what_they_are_and_page_by_page() -> anyhow::Result<()> {
    let system = with_archive().await?;
    system.account("ada", PASSWORD).await?;
    let mut all = BTreeSet::new();
    for _ in 0..25 {
        let nobody = json!({ "session": "nobody's" });
        all.insert(post(&system, "/auth/logout", 404, &nobody).await?);
    }
    system
        .publish("action.Sessioning.deleteAll", HeaderMap::new(), r#"{"user":"nobody"}"#)
        .await?;
    let logouts = flows(&system, &json!({ "path": "/auth/logout" }), 25).await?;
    assert_eq!(logouts.len(), 25);
    let mut paged = Vec::new();
    let mut before = Value::Null;
    loop {
        let mut filter = json!({ "path": "/auth/logout", "limit": 10 });
        if !before.is_null() {
            filter["before"] = before;
        }
        let page = ask(&system, "_flows", &filter).await?;
        let Some(last) = page.last() else { break };
        before = last["cursor"].clone();
        paged.extend(page);
    }
    assert_eq!(paged, logouts, "no row twice and none left out");
    let ids: BTreeSet<String> = paged
        .iter()
        .filter_map(|row| Some(row["flow"].as_str()?.to_owned()))
        .collect();
    assert_eq!(ids, all);
    let injected = flows(&system, &json!({ "action": "Sessioning.deleteAll" }), 1).await?;
    assert_eq!(
        (&injected[0]["root"], &injected[0]["outcome"]),
        (&json!("Sessioning.deleteAll"), &json!("succeeded"))
    );
    // Nothing in the log was before its completion; its worker says how long it took.
    assert!(injected[0]["took_us"].as_u64() > Some(0), "{}", injected[0]);
    for (filter, count) in [
        (json!({ "concept": "Profile" }), 1),
        (json!({ "action": "delete" }), 25),
        (json!({ "concept": "Requesting" }), 26),
        (json!({ "action": "Requesting.respond", "path": "/auth/logout" }), 25),
        (json!({ "outcome": "failed" }), 25),
        (json!({ "outcome": ["succeeded", "open"] }), 2),
        (json!({ "outcome": "dead" }), 0),
        (json!({ "text": "respondtoFAILEDlogout" }), 25),
        (json!({ "text": "HandleLogoutRequest" }), 25),
        (json!({ "text": "404", "outcome": "failed" }), 25),
        (json!({ "text": logouts[9]["flow"] }), 1),
        (json!({ "text": "/auth/log" }), 25),
        (json!({ "text": "/auth.log" }), 0),
        (json!({ "text": "deleteall" }), 1),
        (
            json!({ "since_us": logouts[9]["began_us"], "path": "/auth/logout" }),
            10,
        ),
        (
            json!({ "until_us": logouts[9]["began_us"], "path": "/auth/logout" }),
            16,
        ),
    ] {
        assert_eq!(ask(&system, "_flows", &filter).await?.len(), count, "{filter}");
    }
    let rules = ask(&system, "_rules", &json!({})).await?;
    let syncs = rules[0]["syncs"].as_array().context("syncs")?;
    let logout = syncs
        .iter()
        .find(|sync| sync["name"] == "RespondToFailedLogout")
        .context("the rule")?;
    assert_eq!(logout["firings"], 25);
    let who = syncs.iter().find(|sync| sync["name"] == "WhoAmI").context("the rule")?;
    assert_eq!(
        [&who["when"], &who["where"], &who["then"], &who["else"]],
        [
            &json!(["Requesting.request"]),
            &json!(["Sessioning._getUser", "Profile._getUserDetails"]),
            &json!(["Requesting.respond"]),
            &json!(["Requesting.respond", "Requesting.respond"]),
        ]
    );
    assert!(logout["text"].as_str().is_some_and(|text| text.contains("status: 404")));
    assert!(rules[0]["svg"].as_str().is_some_and(|svg| svg.starts_with("<svg")));
    Ok(())
}

/// Logouts of nobody, one after another, until told to stop; their flows.
async fn logouts(system: &System, count: usize) -> anyhow::Result<BTreeSet<String>> {
    let nobody = json!({ "session": "nobody's" });
    let mut flows = BTreeSet::new();
    for _ in 0..count {
        flows.insert(post(system, "/auth/logout", 404, &nobody).await?);
    }
    Ok(flows)
}

async fn holds_exactly(system: &System, expected: &BTreeSet<String>) -> anyhow::Result<()> {
    let filter = json!({ "path": "/auth/logout", "limit": 500 });
    let rows = flows(system, &filter, expected.len()).await?;
    let ids: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(row["flow"].as_str()?.to_owned()))
        .collect();
    assert_eq!(ids.len(), expected.len(), "none twice");
    assert_eq!(&ids.into_iter().collect::<BTreeSet<_>>(), expected);
    // Each whole, and answered.
    for row in &rows {
        assert_eq!((&row["status"], &row["actions"]), (&json!(404), &json!(3)), "{row}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_killed_goes_on_where_it_was_and_two_write_no_flow_twice() -> anyhow::Result<()> {
    let mut system = with_archive().await?;
    let mut expected = BTreeSet::new();
    for _ in 0..3 {
        expected.append(&mut logouts(&system, 60).await?);
        system.kill(Part::Archive).await?;
        expected.append(&mut logouts(&system, 20).await?);
        system.start_part(Part::Archive)?;
    }
    answers(&system).await?;
    system.start_one(Part::Archive, 1)?;
    expected.append(&mut logouts(&system, 60).await?);
    // The standby takes over what the other leaves.
    system.terminate(Part::Archive).await?;
    expected.append(&mut logouts(&system, 60).await?);
    holds_exactly(&system, &expected).await?;
    empty_the_log(&system).await?;
    let one = expected.first().context("a flow")?;
    assert_eq!(flow(&system, one).await?["actions"].as_array().map(Vec::len), Some(3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_a_limit_of_the_router_stopped_says_so() -> anyhow::Result<()> {
    // The archive is told nothing of it but by the router.
    let mut system = System::with(&[("CONCERT_FLOW_DEPTH", "1")]).await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let stopped = post(&system, "/auth/logout", 508, &json!({ "session": "nobody's" })).await?;
    let rows = flows(&system, &json!({ "path": "/auth/logout" }), 1).await?;
    let told = flow(&system, &stopped).await?;
    assert_eq!(
        (&rows[0]["answered_by"], &told["halt"]["status"]),
        (&json!("Concert.limit"), &json!(508)),
        "{told}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_mongodb_is_away_the_archive_waits_and_afterwards_lacks_nothing() -> anyhow::Result<()> {
    let mut system = System::with(&[
        ("CONCERT_ARCHIVE_MESSAGES", "100"),
        ("CONCERT_METRICS_LISTEN", "127.0.0.1:0"),
    ])
    .await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let figures = system.figures_at(Part::Archive).await?;
    let mut expected = logouts(&system, 20).await?;
    // Actions that were done, as their worker would write them: the workers are without a database, too.
    let nats = system.nats().await?;
    let complete = async || -> anyhow::Result<()> {
        let id = Uuid::now_v7();
        let body = json!({ "input": { "user": "nobody" }, "output": {} }).to_string();
        nats.publish(format!("done.{id}.Sessioning.deleteAll.{id}"), body.into())
            .await?;
        Ok(nats.flush().await?)
    };
    system.servers.mongo.kill().await;
    // One flow is on its way into the database, and stays so.
    complete().await?;
    system
        .until("a write is stuck", async |system: &System| {
            let log = std::fs::read_to_string(system.log(Part::Archive))?;
            Ok(log.contains("flows are not archived yet").then_some(()))
        })
        .await?;
    // More than the archive has room for: the log keeps the rest.
    for _ in 0..250 {
        complete().await?;
    }
    let waits = async || -> anyhow::Result<f64> {
        let figures = http::figures(&figures).await?;
        Ok(figures["concert_archive_waiting_messages"])
    };
    system
        .until("as many messages wait as may", async |_: &System| {
            Ok((waits().await? == 100.0).then_some(()))
        })
        .await?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(waits().await?, 100.0);
    }
    system.servers.mongo.restart().await?;
    let by_hand = json!({ "action": "Sessioning.deleteAll", "limit": 500 });
    assert_eq!(flows(&system, &by_hand, 251).await?.len(), 251);
    expected.append(&mut logouts(&system, 40).await?);
    holds_exactly(&system, &expected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_shown_in_its_flow_and_among_what_is_wrong() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = moody::rules(dir.path())?;
    let mut system = System::with(&[
        ("CONCERT_CONCEPTS", &concepts),
        ("CONCERT_SYNCS", &syncs),
        ("CONCERT_WORKER_ATTEMPTS", "2"),
        ("CONCERT_DEADLINE_MS", "50000"),
    ])
    .await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let worker = Moody::keep(&system)?;
    let id = post(&system, "/moody", 500, &json!({ "mood": "fail" })).await?;
    let rows = flows(&system, &json!({ "outcome": "dead" }), 1).await?;
    assert_eq!(rows[0]["flow"], id.as_str());
    let told = flow(&system, &id).await?;
    let dead = told["actions"]
        .as_array()
        .and_then(|actions| actions.last())
        .context("an action")?;
    assert_eq!((&dead["state"], &dead["dead"]["attempts"]), (&json!("dead"), &json!(3)));
    let wrong = ask(&system, "_wrong", &json!({})).await?;
    assert_eq!(
        (&wrong[0]["dead_count"], &wrong[0]["dead"][0]["flow"]),
        (&json!(1), &json!(id))
    );
    let streams: BTreeSet<&str> = wrong[0]["lag"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|lag| lag["stream"].as_str())
        .collect();
    for stream in ["COMPLETIONS", "ACTIONS_Moody", "ACTIONS_Profile", "ACTIONS_Requesting"] {
        assert!(streams.contains(stream), "{streams:?}");
    }
    // A retry completes the action, and the flow is told as it went on.
    worker.cure()?;
    let retried = system
        .command("concert")
        .args(["dead", "retry", "--all"])
        .output()
        .await?;
    assert!(retried.status.success(), "{retried:?}");
    system
        .until("the flow is told anew", async |system: &System| {
            let rows = ask(system, "_flows", &json!({ "path": "/moody" })).await?;
            Ok((rows[0]["outcome"] == "succeeded").then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_flow_is_told_under_the_rules_that_it_ran_under() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = moody::rules(dir.path())?;
    std::fs::remove_file(dir.path().join("concepts/Moody.concept"))?;
    std::fs::remove_file(dir.path().join("syncs/moody.sync"))?;
    let mut system = System::with(&[("CONCERT_CONCEPTS", &concepts), ("CONCERT_SYNCS", &syncs)]).await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let nobody = json!({ "session": "nobody's" });
    let before = post(&system, "/auth/logout", 404, &nobody).await?;
    let file = dir.path().join("syncs/auth.sync");
    let text = std::fs::read_to_string(&file)?;
    let changed = text
        .replace("sync RespondToFailedLogout", "sync RespondToLogoutOfNobody")
        .replace("(request, error, status: 404)", "(request, error, status: 410)");
    std::fs::write(&file, changed)?;
    let after = system
        .until("the rules are in force", async |system: &System| {
            Ok(post(system, "/auth/logout", 410, &nobody).await.ok())
        })
        .await?;
    system
        .until("both are archived", async |system: &System| {
            let rows = ask(system, "_flows", &json!({ "path": "/auth/logout" })).await?;
            let has = |id: &str| rows.iter().any(|row| row["flow"] == id);
            Ok((has(&before) && has(&after)).then_some(()))
        })
        .await?;
    empty_the_log(&system).await?;
    // A new process has nothing in memory.
    system.kill(Part::Archive).await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let old = flow(&system, &before).await?;
    let new = flow(&system, &after).await?;
    assert_eq!(
        (&old["answered_by"], &new["answered_by"]),
        (&json!("RespondToFailedLogout"), &json!("RespondToLogoutOfNobody"))
    );
    assert_ne!(old["rules"], new["rules"]);
    let rules = ask(&system, "_rules", &json!({ "version": old["rules"] })).await?;
    assert!(rules[0]["syncs"].to_string().contains("RespondToFailedLogout"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_hears_of_flows() -> anyhow::Result<()> {
    let system = with_archive().await?;
    let operator = system.nats_as("operator").await?;
    let mut notices = operator.subscribe("notice.flows").await?;
    operator.flush().await?;
    let id = post(&system, "/auth/logout", 404, &json!({ "session": "nobody's" })).await?;
    let heard = async {
        while let Some(notice) = notices.next().await {
            let notice: Value = serde_json::from_slice(&notice.payload)?;
            let flows = notice["flows"].as_array().context("flows")?;
            if flows
                .iter()
                .any(|row| row["flow"] == id.as_str() && row["status"] == 404)
            {
                return Ok(());
            }
        }
        anyhow::bail!("the connection ended")
    };
    tokio::time::timeout(Duration::from_secs(60), heard).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_hears_of_a_slow_flow_before_it_is_answered() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = moody::rules(dir.path())?;
    // It is not written before it is answered.
    let mut system = System::with(&[
        ("CONCERT_CONCEPTS", &concepts),
        ("CONCERT_SYNCS", &syncs),
        ("CONCERT_ARCHIVE_QUIET_MS", "60000"),
    ])
    .await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let _worker = Moody::keep(&system)?;
    let first = json!(post(&system, "/moody", 200, &json!({ "mood": "good" })).await?);
    let operator = system.nats_as("operator").await?;
    let mut notices = operator.subscribe("notice.flows").await?;
    operator.flush().await?;
    let heard = async {
        let mut outcomes = Vec::new();
        while let Some(notice) = notices.next().await {
            let notice: Value = serde_json::from_slice(&notice.payload)?;
            let flows = notice["flows"].as_array().context("flows")?;
            let of_slow = flows
                .iter()
                .filter(|row| row["path"] == "/moody" && row["flow"] != first);
            outcomes.extend(of_slow.map(|row| (row["flow"].clone(), row["outcome"].clone())));
            if outcomes.last().is_some_and(|(_, outcome)| outcome != "open") {
                return Ok(outcomes);
            }
        }
        anyhow::bail!("the connection ended")
    };
    let slow = json!({ "mood": "slower" });
    let (heard, id) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(60), heard),
        post(&system, "/moody", 200, &slow)
    );
    let id = json!(id?);
    assert_eq!(heard??, [(id.clone(), json!("open")), (id, json!("succeeded"))]);
    Ok(())
}
