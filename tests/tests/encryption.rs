//! TLS on all connections: the servers reject plain text, and the clients reject a server whose
//! certificate another CA signed.

use std::process::Output;

use async_nats::ConnectErrorKind;
use concert_tests::{Part, RawNats, System, certificates};
use mongodb::bson::doc;
use serde_json::json;

const PASSWORD: &str = "correct horse battery";

async fn ping(uri: &str) -> Result<(), mongodb::error::Error> {
    let client =
        mongodb::Client::with_uri_str(format!("{uri}&serverSelectionTimeoutMS=2000")).await?;
    client.database("admin").run_command(doc! { "ping": 1 }).await.map(drop)
}

fn output_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn login_works_over_tls_and_plain_text_or_foreign_ca_fails() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let certificate = certificates::of_loopback(dir.path(), "ours")?;
    let other = certificates::of_loopback(dir.path(), "another")?.ca;
    let ca = certificate.ca.display().to_string();
    let mut system = System::encrypted(&[("NATS_CA", &ca)], Some(&certificate)).await?;
    let user = system.account("ada", PASSWORD).await?;
    let session = json!({ "session": system.login("ada", PASSWORD).await? });
    let answer = system.post("/auth/whoami", &session).await?;
    assert_eq!((answer.status, answer.text("user")?), (200, &*user));
    assert_eq!(system.post("/auth/logout", &session).await?.status, 200);

    let url = system.servers.nats.url();
    let seed = std::fs::read_to_string(system.seeds("profile"))?;
    let plain = url.replace("tls://", "nats://");
    assert!(RawNats::connect(&plain, &seed).await.is_err(), "NATS takes plain text");
    let options = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned());
    let refused = options.add_root_certificates(other.clone()).connect(&url).await;
    assert!(refused.is_err_and(|error| error.kind() != ConnectErrorKind::AuthorizationViolation));
    system.nats_as("profile").await?;

    let uri = system.servers.mongo.uri();
    ping(&uri).await?;
    let (plain, _) = uri.split_once("&tls=").unwrap_or_default();
    assert!(ping(plain).await.is_err(), "MongoDB takes plain text");
    assert!(ping(&uri.replace(&ca, &other.display().to_string())).await.is_err());

    // A process with the wrong CA does not start and reports the reason.
    system.terminate(Part::Profile).await?;
    let worker = system
        .concert(&["worker", "Profile"])
        .env("NATS_NKEY", system.seeds("profile"))
        .env("NATS_CA", &other)
        .output()
        .await?;
    assert!(
        !worker.status.success() && output_of(&worker).contains("cannot connect to NATS"),
        "{}",
        output_of(&worker)
    );
    let worker =
        system.concert(&["worker", "Profile"]).env("NATS_CA", "/nowhere.pem").output().await?;
    assert!(output_of(&worker).contains("/nowhere.pem"), "{}", output_of(&worker));
    Ok(())
}
