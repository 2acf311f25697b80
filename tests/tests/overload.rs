//! More logins than the processors can hash: some are refused at once, the others are answered in
//! time, and nobody else notices.

use concert_tests::{System, http};
use serde_json::json;

const PASSWORD: &str = "correct horse battery";
/// Far more than are taken.
const FLOOD: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn login_flood_is_partly_refused_and_the_rest_is_answered() -> anyhow::Result<()> {
    // Hashes that cost what they cost in earnest, and room for few.
    let system = System::with(&[
        ("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_MEMORY_KIB", "19456"),
        ("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_PASSES", "2"),
        ("CONCERT_HTTP__MIN_REQUESTS_PER_PATH", "8"),
        ("CONCERT_HTTP__MAX_WAIT_MS", "500"),
    ])
    .await?;
    system.account("ada", PASSWORD).await?;
    let login = json!({ "username": "ada", "password": PASSWORD });
    let address = system.address();
    let flood: Vec<_> = (0..FLOOD)
        .map(|_| {
            let login = login.clone();
            tokio::spawn(async move { http::post(address, "/api/auth/login", &login).await })
        })
        .collect();
    // A path that is not flooded has its own places.
    for number in 0..20 {
        let answer = system
            .post("/auth/logout", &json!({ "session": format!("nobody's {number}") }))
            .await?;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    let (mut answered, mut refused) = (0, 0);
    for login in flood {
        let answer = login.await??;
        match answer.status {
            200 => answered += 1,
            503 => {
                refused += 1;
                assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
                assert_eq!(answer.headers["concert-answered-by"], "edge");
                assert!(!answer.headers.contains_key("concert-flow"), "nothing was begun");
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert!(answered >= 8 && refused > 0, "{answered} answered, {refused} refused");
    // Only what was taken has left a trace.
    system.routed().await?;
    let requests = system.stream_messages("COMPLETIONS", "done.*.Requesting.request.*").await?;
    let logins = requests.iter().filter(|(_, body)| body["input"]["path"] == "/auth/login").count();
    assert_eq!(logins, answered);
    // The flood is over, and so is its effect.
    system.login("ada", PASSWORD).await?;
    Ok(())
}
