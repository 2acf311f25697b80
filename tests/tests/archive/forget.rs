//! The flows of a deleted account leave the archive on request.

use concert_tests::{System, binaries};
use mongodb::bson::{Document, doc};
use serde_json::json;

use super::queries::{flows, with_archive};

const PASSWORD: &str = "correct horse battery";

#[tokio::test(flavor = "multi_thread")]
async fn flows_of_a_user_are_deleted_on_request() -> anyhow::Result<()> {
    let system = with_archive().await?;
    let ada = system.account("ada", PASSWORD).await?;
    let bob = system.account("bob", PASSWORD).await?;
    let wrong = json!({ "username": "ada", "password": "wrong horse battery" });
    assert_eq!(system.post("/auth/login", &wrong).await?.status, 401);
    for name in ["ada", "bob"] {
        system.login(name, PASSWORD).await?;
    }
    flows(&system, &json!({ "path": "/auth/login" }), 3).await?;
    flows(&system, &json!({ "path": "/auth/createAccount" }), 2).await?;
    stored(&system, 5).await?;
    let printed =
        binaries::finished(&mut system.concert(&["archive", "forget", &ada, "ada"])).await?;
    assert_eq!(printed.trim(), "deleted 3 flows and 0 dead letters from the archive");
    stored(&system, 2).await?;
    let left = binaries::finished(&mut system.concert(&["archive", "forget", &bob])).await?;
    assert_eq!(left.trim(), "deleted 2 flows and 0 dead letters from the archive");
    Ok(())
}

/// Waits until the archive has stored this number of flows.
async fn stored(system: &System, count: u64) -> anyhow::Result<()> {
    system
        .until("the flows are stored", async |system: &System| {
            let flows = system.database("archive").await?.collection::<Document>("flows");
            Ok((flows.count_documents(doc! { "path": { "$exists": true } }).await? == count)
                .then_some(()))
        })
        .await
}
