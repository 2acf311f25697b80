//! Messages that the NATS client cannot read are put aside, and hold nothing up.

use concert_tests::{Part, System};
use uuid::Uuid;

const PASSWORD: &str = "Correct-Horse-Battery-9";

/// Blocks of headers that the server stores and the client does not read: each ends the connection.
const MALFORMED: [&[u8]; 3] = [
    b"NATS/1.0\r\nno header\r\n\r\n",
    b"NATS/1.0\r\nConcert-Flow: \xff\r\n\r\n",
    b"NATS/9.9\r\n\r\n",
];

/// Waits for the dead letter of a message, and says why it is one.
async fn reason(system: &System, concept: &str, id: Uuid) -> anyhow::Result<String> {
    let filter = format!("dead.{concept}.>");
    system
        .until("the dead letter", async |system: &System| {
            let ids = system.header_values("DEAD", &filter, "Concert-Action").await?;
            let reasons = system.header_values("DEAD", &filter, "Concert-Reason").await?;
            let at = ids.iter().position(|other| *other == id.to_string());
            Ok(at.and_then(|at| reasons.get(at).cloned()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_put_aside_and_holds_nothing_up() -> anyhow::Result<()> {
    let system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let mut nats = system.raw_nats().await?;
    for block in MALFORMED {
        let (asked, done) = (Uuid::now_v7(), Uuid::now_v7());
        let body = br#"{"username":"ada","password":"Secret-In-A-Bad-Message"}"#;
        nats.publish(&format!("action.Profile.authenticate.{asked}"), Some(block), body)
            .await?;
        let completion = br#"{"input":{"user":"u"},"output":{}}"#;
        nats.publish(
            &format!("done.{done}.Sessioning.deleteAll.{done}"),
            Some(block),
            completion,
        )
        .await?;
        nats.settled().await?;
        system.login("ada", PASSWORD).await?;
        for (concept, id) in [("Profile", asked), ("Sessioning", done)] {
            let why = reason(&system, concept, id).await?;
            assert!(why.starts_with("its headers cannot be read"), "{why}");
        }
    }
    system.idle("Profile").await?;
    let letters = system.stream_messages("DEAD", "dead.Profile.authenticate").await?;
    assert_eq!(letters.len(), MALFORMED.len());
    for (_, body) in letters {
        let password = body["password"].as_str().unwrap_or_default();
        assert!(password.starts_with("sealed:"), "{body}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_the_client_ends_the_process_and_is_put_aside_at_its_next_start() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let mut nats = system.raw_nats().await?;
    let id = Uuid::now_v7();
    let block = b"NATS/1.0\r\nConcert-Sync: a\rb\r\n\r\n";
    nats.publish(
        &format!("action.Profile.deleteAccount.{id}"),
        Some(block),
        br#"{"user":"u"}"#,
    )
    .await?;
    nats.settled().await?;
    let log = system.falls(Part::Profile).await?;
    assert!(log.contains("the NATS client has ended by itself"), "{log}");
    system.start_part(Part::Profile)?;
    system.ready().await?;
    let why = reason(&system, "Profile", id).await?;
    assert!(why.contains("carriage return"), "{why}");
    system.login("ada", PASSWORD).await?;
    Ok(())
}
