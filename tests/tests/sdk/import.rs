//! `concert-import` on the project `sdk/tests/board`, and the imported application on the real
//! system.

use anyhow::{Context as _, ensure};
use concert_tests::http::post;
use concert_tests::running::{self, FREE_PORTS};
use concert_tests::{binaries, until};
use serde_json::{Value, json};

use super::TIMEOUT;

const IMPORTER: &str = "sdk/typescript/dist/src/import/cli.js";

#[tokio::test(flavor = "multi_thread")]
async fn imported_application_passes_the_checker_and_answers_requests() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let app = dir.path().join("app");
    let concert = binaries::dir().await?.join("concert");
    let root = binaries::root().canonicalize()?;
    let import = |accept: &[&str]| {
        let mut command = binaries::command("node".as_ref());
        command.args([IMPORTER, "sdk/tests/board"]).arg(&app).args(["--answers", "--open"]);
        command.arg("--concert").arg(&concert);
        command.args(accept.iter().flat_map(|name| ["--accept", name]));
        command
    };

    // The rule that has no counterpart is reported, with its place.
    let status = import(&["changed"]).status().await?;
    assert_eq!(status.code(), Some(1));
    std::fs::remove_dir_all(&app)?;
    let printed = binaries::finished(&mut import(&["changed", "LatestRequest"])).await?;
    ensure!(printed.contains("rules: 4 exact, 1 changed, 1 by hand, 2 added"), "{printed}");
    ensure!(printed.contains("concert check: 0 errors, 0 warnings"), "{printed}");
    let report = std::fs::read_to_string(app.join("IMPORT.md"))?;
    let by_hand = "| LatestRequest | by hand, accepted | src/syncs/board.sync.ts:51 |";
    ensure!(report.contains(by_hand), "{report}");
    let package: Value = serde_json::from_slice(&std::fs::read(app.join("package.json"))?)?;
    let sdk = package.pointer("/dependencies/concert-worker").and_then(Value::as_str);
    let path = sdk.and_then(|sdk| sdk.strip_prefix("file:")).context("not a path")?;
    assert_eq!(std::path::Path::new(path).canonicalize()?, root.join("sdk/typescript"));

    let mut install = binaries::command("npm".as_ref());
    install.args(["install", "--no-fund", "--no-audit"]).current_dir(&app);
    binaries::finished(&mut install).await?;
    let mut dev = binaries::command(&concert);
    dev.arg("dev").current_dir(&app).envs(FREE_PORTS).env("CONCERT_ARCHIVE__ENABLED", "false");
    let stderr = dir.path().join("stderr");
    let mut dev = dev.stderr(std::fs::File::create(&stderr)?).spawn()?;
    let http = running::address(&mut dev, &app.join(".concert"), &stderr).await?;

    until("the workers answer", TIMEOUT, async || {
        let names = post(http, "/api/Membership/_names", &json!({})).await?;
        let cards = post(http, "/api/Board/cards", &json!({ "name": "nobody" })).await?;
        Ok((names.status == 200 && cards.status == 200).then_some(()))
    })
    .await?;
    let call = async |path: &str, body: Value| -> anyhow::Result<Value> {
        let answer = post(http, &format!("/api/{path}"), &body).await?;
        ensure!(answer.status == 200, "{path} {body}: {answer:?}");
        Ok(answer.body)
    };
    let ada = json!({ "name": "ada" });
    let member = call("Membership/join", ada.clone()).await?;
    // Refusals have the status 200, as in the project.
    let again = call("Membership/join", ada.clone()).await?;
    assert_eq!(again, json!({ "error": "ada is a member" }));
    assert_eq!(call("Membership/_names", json!({})).await?, json!([ada]));
    assert_eq!(call("Board/cards", ada.clone()).await?, json!({ "cards": [] }));
    let posted = call("Board/post", json!({ "name": "ada", "text": "Hello" })).await?;
    call("Board/pin", posted.clone()).await?;
    let card = json!({
        "_id": posted.get("card"),
        "author": member.get("member"),
        "text": "Hello",
        "pinned": true,
    });
    assert_eq!(call("Board/cards", ada).await?, json!({ "cards": [{ "card": card }] }));
    let refused = call("Board/post", json!({ "name": "ada", "text": "" })).await?;
    assert_eq!(refused, json!({ "error": "a card has a text" }));
    Ok(())
}
