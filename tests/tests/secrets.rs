//! No file contains a password or a session token in clear text.

use concert_tests::files::files_with;
use concert_tests::{PARTS, Part, System};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn files_contain_no_secret() -> anyhow::Result<()> {
    // The most verbose logs.
    let mut system = System::with(&[
        ("CONCERT_TELEMETRY__LOG", "trace"),
        ("CONCERT_HTTP__DEADLINE_MS", "40000"),
    ])
    .await?;
    let (username, password, wrong) =
        ("findable-username", "Findable-Password-1", "Findable-Password-2");
    let user = system.account(username, password).await?;
    let session = system.login(username, password).await?;
    let kept = system.login(username, password).await?;
    let attempts = [
        ("/auth/login", json!({ "username": username, "password": wrong })),
        ("/auth/login", json!({ "username": username, "password": password, "pasword": wrong })),
        ("/auth/login", json!({ "username": username, "pasword": wrong })),
        ("/auth/login", json!({ "username": { "a": wrong }, "password": { "b": wrong } })),
        ("/auth/createAccount", json!({ "username": username, "password": wrong })),
        ("/auth/nowhere", json!({ "username": username, "password": wrong })),
        ("/auth/logout", json!({ "session": session, "password": wrong })),
        ("/auth/logout", json!({ "session": session })),
    ];
    for (path, body) in attempts {
        system.post(path, &body).await?;
    }
    let nats = system.nats().await?;
    for (subject, body) in [
        ("concept.Sessioning.deleteOthers", json!({ "user": user, "session": kept })),
        ("concept.Sessioning._getUser", json!({ "session": kept })),
        ("concept.Sessioning._getSessions", json!({ "user": user })),
        ("concept.Sessioning.delete", json!({ "session": kept })),
        ("concept.Profile.authenticate", json!({ "username": username, "password": wrong })),
        ("concept.Profile.authenticate", json!({ "username": 5, "password": wrong })),
    ] {
        nats.request(subject, body.to_string().into()).await?;
    }
    system.start_part(Part::Archive)?;
    system.kill(Part::Router).await?;
    system.start_part(Part::Router)?;
    system.ready().await?;
    system.login(username, password).await?;
    system
        .until("the archive has stored all messages", async |system: &System| {
            let jetstream = async_nats::jetstream::new(system.nats().await?);
            let log = jetstream.get_stream("COMPLETIONS").await?;
            let archives = log.consumer_info("archives").await?;
            Ok((archives.num_pending == 0 && archives.num_ack_pending == 0).then_some(()))
        })
        .await?;
    for part in PARTS.into_iter().chain([Part::Archive]) {
        system.terminate(part).await?;
    }
    system.servers.nats.stop().await;
    system.servers.mongo.stop().await;
    let mut searched = 0;
    for secret in [password, wrong, &session, &kept] {
        assert_eq!(files_with(system.servers.dir(), secret, &mut searched)?, Vec::<String>::new());
    }
    // Control: the search finds other texts, and there were files to search.
    assert!(!files_with(system.servers.dir(), username, &mut searched)?.is_empty());
    assert!(searched > 50, "{searched}");
    Ok(())
}
