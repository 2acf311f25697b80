//! Contents and queries of the archive: recent flows, flows that the log no longer holds, and
//! outages in between.

#![expect(clippy::indexing_slicing, reason = "an answer without these members fails the test")]

mod forget;
mod listeners;
mod outages;
pub(crate) mod queries;
pub(crate) mod secrets;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap;
use concert_tests::faulty::{self, Faulty};
use concert_tests::{Part, System};
use serde_json::{Value, json};

use self::queries::{answers, ask, flow, flows, post, with_archive};
use self::secrets::without_secrets;

const PASSWORD: &str = "correct horse battery";

/// Expires the log by age.
async fn expire_log(system: &System) -> anyhow::Result<()> {
    system.routed().await?;
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let log = jetstream.get_stream("COMPLETIONS").await?;
    let config = log.cached_info().config.clone();
    let mut short = config.clone();
    (short.max_age, short.duplicate_window) = (Duration::from_secs(2), Duration::from_secs(2));
    jetstream.update_stream(short).await?;
    system
        .until("the log is empty", async |_: &System| {
            let log = jetstream.get_stream("COMPLETIONS").await?;
            Ok((log.cached_info().state.messages == 0).then_some(()))
        })
        .await?;
    jetstream.update_stream(config).await?;
    Ok(())
}

/// Purges the log.
async fn purge_log(system: &System) -> anyhow::Result<()> {
    system.routed().await?;
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    jetstream.get_stream("COMPLETIONS").await?.purge().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_reads_the_same_from_log_and_archive() -> anyhow::Result<()> {
    let system = with_archive().await?;
    system.account("ada", PASSWORD).await?;
    let good = json!({ "username": "ada", "password": PASSWORD });
    let bad = json!({ "username": "ada", "password": "wrong horse battery" });
    let well = post(&system, "/auth/login", 200, &good).await?;
    let failed = post(&system, "/auth/login", 401, &bad).await?;
    let rows = flows(&system, &json!({ "path": "/auth/login" }), 2).await?;
    let listed: Vec<_> =
        rows.iter().map(|row| (&row["flow"], &row["outcome"], &row["answered_by"])).collect();
    assert_eq!(
        listed,
        [
            (&json!(failed), &json!("failed"), &json!("RespondToFailedAuthentication")),
            (&json!(well), &json!("succeeded"), &json!("CreateSessionOnSuccessfulAuthentication")),
        ]
    );
    assert_eq!(rows[0]["error"], "Invalid username or password.");
    let hot = [flow(&system, &well).await?, flow(&system, &failed).await?];
    for shown in &hot {
        assert_eq!(shown["source"], "log");
        let text = shown.to_string();
        assert!(text.contains("sealed:") && !text.contains("horse"), "{text}");
    }
    let why = json!({ "flow": failed, "sync": "CreateSessionOnSuccessfulAuthentication" });
    let hot_why = ask(&system, "_whyNot", &why).await?;
    assert_eq!(hot_why[0]["failed"]["key"], "user");
    assert_eq!(hot[1]["near_misses"][0]["sync"], "CreateSessionOnSuccessfulAuthentication");

    expire_log(&system).await?;
    assert!(system.flow(&well).await?.is_empty());
    for (id, mut hot) in [&well, &failed].into_iter().zip(hot) {
        hot["source"] = json!("archive");
        assert_eq!(without_secrets(flow(&system, id).await?), without_secrets(hot));
    }
    assert_eq!(ask(&system, "_whyNot", &why).await?, hot_why);
    let nobody =
        ask(&system, "_flow", &json!({ "flow": "01890a5d-ac96-774b-bcce-b302099a8057" })).await?;
    assert!(nobody.is_empty());
    for (query, input) in [
        ("_flow", json!({ "flow": "x" })),
        ("_flow", json!({})),
        ("_flows", json!({ "limit": 501 })),
        ("_flows", json!({ "text": "x".repeat(401) })),
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

/// The output of a command, or its error.
async fn concert(system: &System, args: &[&str]) -> anyhow::Result<String> {
    let done = system.concert(args).output().await?;
    let said = String::from_utf8([done.stdout, done.stderr].concat())?;
    anyhow::ensure!(done.status.success(), "{said}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_show_what_happened() -> anyhow::Result<()> {
    let mut system = with_archive().await?;
    system.account("ada", PASSWORD).await?;
    let bad = json!({ "username": "ada", "password": "wrong horse battery" });
    let failed = post(&system, "/auth/login", 401, &bad).await?;
    flows(&system, &json!({ "path": "/auth/login" }), 1).await?;
    let tree = concert(&system, &["flow", &failed]).await?;
    for part in [
        "failed 401",
        "response by RespondToFailedAuthentication",
        "└─ Profile.authenticate  refused: Invalid username or password.",
        "CreateSessionOnSuccessfulAuthentication stopped at Profile.authenticate () : (user)",
    ] {
        assert!(tree.contains(part), "{part}\n{tree}");
    }
    assert!(!tree.contains('\u{1b}') && !tree.contains("horse"), "{tree}");
    let shown: Value =
        serde_json::from_str(&concert(&system, &["flow", &failed, "--json"]).await?)?;
    assert_eq!(shown, flow(&system, &failed).await?);
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
    assert!(
        wrong.is_err_and(|said| said.to_string().contains("did you mean `RespondToFailedLogout`?"))
    );
    let nobody = concert(&system, &["flow", "01890a5d-ac96-774b-bcce-b302099a8057"]).await;
    assert!(nobody.is_err_and(|said| said.to_string().contains("not found")));
    system.terminate(Part::Archive).await?;
    let silent = concert(&system, &["flows"]).await;
    assert!(silent.is_err_and(|said| said.to_string().contains("no archive is running")));
    for shell in ["bash", "zsh", "fish"] {
        assert!(concert(&system, &["completions", shell]).await?.contains("why-not"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_are_filtered_and_listed_in_pages() -> anyhow::Result<()> {
    let system = with_archive().await?;
    system.account("ada", PASSWORD).await?;
    let mut all = BTreeSet::new();
    for _ in 0..25 {
        let nobody = json!({ "session": "nobody's" });
        all.insert(post(&system, "/auth/logout", 404, &nobody).await?);
    }
    system.publish("action.Sessioning.deleteAll", HeaderMap::new(), r#"{"user":"nobody"}"#).await?;
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
    assert_eq!(paged, logouts, "each row appears once");
    let ids: BTreeSet<String> =
        paged.iter().filter_map(|row| Some(row["flow"].as_str()?.to_owned())).collect();
    assert_eq!(ids, all);
    let injected = flows(&system, &json!({ "action": "Sessioning.deleteAll" }), 1).await?;
    assert_eq!(
        (&injected[0]["root"], &injected[0]["outcome"]),
        (&json!("Sessioning.deleteAll"), &json!("succeeded"))
    );
    // The log has no message before its completion; the worker records how long it took.
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
        (json!({ "since_us": logouts[9]["began_us"], "path": "/auth/logout" }), 10),
        (json!({ "until_us": logouts[9]["began_us"], "path": "/auth/logout" }), 16),
    ] {
        assert_eq!(ask(&system, "_flows", &filter).await?.len(), count, "{filter}");
    }
    let rules = ask(&system, "_rules", &json!({})).await?;
    let syncs = rules[0]["syncs"].as_array().context("syncs")?;
    let logout =
        syncs.iter().find(|sync| sync["name"] == "RespondToFailedLogout").context("the rule")?;
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

#[tokio::test(flavor = "multi_thread")]
async fn flow_stopped_by_a_router_limit_shows_the_limit() -> anyhow::Result<()> {
    // Only the router reports this to the archive.
    let mut system = System::with(&[("CONCERT_ROUTER__FLOW_DEPTH", "1")]).await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let stopped = post(&system, "/auth/logout", 508, &json!({ "session": "nobody's" })).await?;
    let rows = flows(&system, &json!({ "path": "/auth/logout" }), 1).await?;
    let shown = flow(&system, &stopped).await?;
    assert_eq!(
        (&rows[0]["answered_by"], &shown["halt"]["status"]),
        (&json!("Concert.limit"), &json!(508)),
        "{shown}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_appears_in_its_flow_and_among_the_problems() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = faulty::rules(dir.path())?;
    let mut system = System::with(&[
        ("CONCERT_RULES__CONCEPTS", &concepts),
        ("CONCERT_RULES__SYNCS", &syncs),
        ("CONCERT_WORKERS__ATTEMPTS", "2"),
        ("CONCERT_HTTP__DEADLINE_MS", "50000"),
    ])
    .await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let worker = Faulty::run(&system)?;
    let id = post(&system, "/faulty", 500, &json!({ "failure_mode": "fail" })).await?;
    let rows = flows(&system, &json!({ "outcome": "dead" }), 1).await?;
    assert_eq!(rows[0]["flow"], id.as_str());
    let shown = flow(&system, &id).await?;
    let dead =
        shown["actions"].as_array().and_then(|actions| actions.last()).context("an action")?;
    assert_eq!((&dead["state"], &dead["dead"]["attempts"]), (&json!("dead"), &json!(3)));
    let wrong = ask(&system, "_wrong", &json!({})).await?;
    assert_eq!((&wrong[0]["dead_count"], &wrong[0]["dead"][0]["flow"]), (&json!(1), &json!(id)));
    let streams: BTreeSet<&str> = wrong[0]["lag"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|lag| lag["stream"].as_str())
        .collect();
    for stream in ["COMPLETIONS", "ACTIONS_Faulty", "ACTIONS_Profile"] {
        assert!(streams.contains(stream), "{streams:?}");
    }
    // A retry completes the action, and the archived flow is updated.
    worker.heal()?;
    let retried = system.concert(&["dead", "retry", "--all"]).output().await?;
    assert!(retried.status.success(), "{retried:?}");
    system
        .until("the archived flow is updated", async |system: &System| {
            let rows = ask(system, "_flows", &json!({ "path": "/faulty" })).await?;
            Ok((rows[0]["outcome"] == "succeeded").then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_is_shown_with_the_rules_it_ran_under() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = faulty::rules(dir.path())?;
    std::fs::remove_file(dir.path().join("concepts/Faulty.concept"))?;
    std::fs::remove_file(dir.path().join("syncs/faulty.sync"))?;
    let mut system =
        System::with(&[("CONCERT_RULES__CONCEPTS", &concepts), ("CONCERT_RULES__SYNCS", &syncs)])
            .await?;
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
        .until("the rules are active", async |system: &System| {
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
    purge_log(&system).await?;
    // A new process has an empty cache.
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
