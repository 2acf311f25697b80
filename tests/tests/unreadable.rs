//! Messages that the NATS client cannot parse are dead-lettered and block nothing.

use std::collections::BTreeSet;

use concert_tests::{Part, RawNats, System};
use uuid::Uuid;

const PASSWORD: &str = "Correct-Horse-Battery-9";

/// Header blocks that the server stores and the client rejects: each closes the connection.
const MALFORMED: [&[u8]; 3] = [
    b"NATS/1.0\r\nno header\r\n\r\n",
    b"NATS/1.0\r\nConcert-Flow: \xff\r\n\r\n",
    b"NATS/9.9\r\n\r\n",
];

/// Readable as stored, but not with the header that the server adds for routers.
const WITHOUT_END: &[u8] = b"NATS/1.0\r\n";
/// Crashes the client.
const BARE_RETURN: &[u8] = b"NATS/1.0\r\nConcert-Sync: a\rb\r\n\r\n";
/// Number of unreadable messages in a queue and in the log.
const MANY: usize = 50;

/// Unreadable messages, each followed by a valid one, in the queue of Sessioning and in the log.
struct Mixture {
    /// The subjects of the unreadable messages.
    bad: BTreeSet<String>,
    /// The IDs of the valid actions between them.
    good: BTreeSet<String>,
}

async fn publish_mixed(nats: &mut RawNats, blocks: &[&[u8]]) -> anyhow::Result<Mixture> {
    let (mut bad, mut good) = (BTreeSet::new(), BTreeSet::new());
    for block in blocks.iter().cycle().take(MANY) {
        let [queued, done, then, logged] = [(); 4].map(|()| Uuid::now_v7());
        let (in_queue, in_log) = (
            format!("action.Sessioning.deleteAll.{queued}"),
            format!("done.{done}.Sessioning.deleteAll.{done}"),
        );
        let (input, completion) = (br#"{"user":"u"}"#, br#"{"input":{"user":"u"},"output":{}}"#);
        nats.publish(&in_queue, Some(block), input).await?;
        nats.publish(&format!("action.Sessioning.deleteAll.{then}"), None, input).await?;
        nats.publish(&in_log, Some(block), completion).await?;
        nats.publish(&format!("done.{logged}.Sessioning.deleteAll.{logged}"), None, completion)
            .await?;
        bad.extend([in_queue, in_log]);
        good.insert(then.to_string());
    }
    nats.round_trip().await?;
    Ok(Mixture { bad, good })
}

/// Checks that every unreadable message becomes one dead letter, and that every action between them
/// is executed.
async fn each_is_handled(system: &System, sent: &Mixture) -> anyhow::Result<()> {
    system
        .until("every message has a dead letter", async |system: &System| {
            let dead_letters = system.header_values("DEAD", "dead.>", "Concert-Subject").await?;
            assert!(
                dead_letters.iter().all(|subject| sent.bad.contains(subject)),
                "{dead_letters:?}"
            );
            Ok((dead_letters.len() >= sent.bad.len()).then_some(()))
        })
        .await?;
    system.idle("Sessioning").await?;
    system.routed().await?;
    let dead_letters = system.header_values("DEAD", "dead.>", "Concert-Subject").await?;
    assert_eq!(dead_letters.len(), sent.bad.len(), "one dead letter for each");
    let done: BTreeSet<String> = system
        .subjects("COMPLETIONS", "done.*.Sessioning.deleteAll.*")
        .await?
        .iter()
        .filter_map(|subject| subject.rsplit('.').next().map(str::to_owned))
        .collect();
    let lost: Vec<_> = sent.good.difference(&done).collect();
    assert!(lost.is_empty(), "not executed: {lost:?}");
    Ok(())
}

/// Waits for the dead letter of a message and returns its reason.
async fn reason(system: &System, concept: &str, id: Uuid) -> anyhow::Result<String> {
    let filter = format!("dead.{concept}.>");
    system
        .until("the dead letter exists", async |system: &System| {
            let ids = system.header_values("DEAD", &filter, "Concert-Action").await?;
            let reasons = system.header_values("DEAD", &filter, "Concert-Reason").await?;
            let at = ids.iter().position(|other| *other == id.to_string());
            Ok(at.and_then(|at| reasons.get(at).cloned()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_messages_are_dead_lettered_without_blocking() -> anyhow::Result<()> {
    let system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let mut nats = system.raw_nats().await?;
    for block in MALFORMED {
        let (asked, done) = (Uuid::now_v7(), Uuid::now_v7());
        let body = br#"{"username":"ada","password":"Secret-In-A-Bad-Message"}"#;
        nats.publish(&format!("action.Profile.authenticate.{asked}"), Some(block), body).await?;
        let completion = br#"{"input":{"user":"u"},"output":{}}"#;
        nats.publish(&format!("done.{done}.Sessioning.deleteAll.{done}"), Some(block), completion)
            .await?;
        nats.round_trip().await?;
        system.login("ada", PASSWORD).await?;
        for (concept, id) in [("Profile", asked), ("Sessioning", done)] {
            let why = reason(&system, concept, id).await?;
            assert!(why.starts_with("cannot read its headers"), "{why}");
        }
    }
    system.idle("Profile").await?;
    let dead_letters = system.stream_messages("DEAD", "dead.Profile.authenticate").await?;
    assert_eq!(dead_letters.len(), MALFORMED.len());
    for (_, body) in dead_letters {
        let password = body["password"].as_str().unwrap_or_default();
        assert!(password.starts_with("sealed:"), "{body}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_crashes_the_client_is_dead_lettered_after_restart() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let mut nats = system.raw_nats().await?;
    let id = Uuid::now_v7();
    nats.publish(
        &format!("action.Profile.deleteAccount.{id}"),
        Some(BARE_RETURN),
        br#"{"user":"u"}"#,
    )
    .await?;
    nats.round_trip().await?;
    let log = system.wait_for_crash(Part::Profile).await?;
    assert!(log.contains("the NATS client has stopped"), "{log}");
    system.start_part(Part::Profile)?;
    system.ready().await?;
    let why = reason(&system, "Profile", id).await?;
    assert!(why.contains("carriage return"), "{why}");
    system.login("ada", PASSWORD).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_unreadable_messages_are_dead_lettered_without_losing_others() -> anyhow::Result<()>
{
    let system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let mut nats = system.raw_nats().await?;
    let sent = publish_mixed(&mut nats, &MALFORMED).await?;
    each_is_handled(&system, &sent).await?;
    system.login("ada", PASSWORD).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_crashing_messages_cost_each_process_one_restart() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let mut nats = system.raw_nats().await?;
    let sent = publish_mixed(&mut nats, &[BARE_RETURN]).await?;
    for part in [Part::Router, Part::Sessioning] {
        let log = system.wait_for_crash(part).await?;
        assert!(log.contains("the NATS client has stopped"), "{log}");
        system.start_part(part)?;
    }
    each_is_handled(&system, &sent).await?;
    // Fails if a process has exited once more.
    system.ready().await?;
    system.login("ada", PASSWORD).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unterminated_headers_are_dead_lettered_in_the_log_but_run_in_queues() -> anyhow::Result<()>
{
    let system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let mut nats = system.raw_nats().await?;
    let mut sent = publish_mixed(&mut nats, &[WITHOUT_END]).await?;
    // Workers get the message as stored.
    sent.bad.retain(|subject| {
        let id = subject.strip_prefix("action.Sessioning.deleteAll.");
        sent.good.extend(id.map(str::to_owned));
        id.is_none()
    });
    each_is_handled(&system, &sent).await?;
    system.login("ada", PASSWORD).await?;
    Ok(())
}
