//! The view of dead letters, backlog and recent failures.

use concert_tests::EdgeWithStubArchive;
use concert_tests::edge_with_stub_archive::TOKEN;
use serde_json::{Value, json};

use crate::browser::{Browser, Scheme};
use crate::list::flow_id;
use crate::looks::is_legible;

fn problems() -> Value {
    json!({
        "dead": [
            { "action": "a", "concept": "Profile", "name": "authenticate", "flow": flow_id(1),
              "reason": "attempts used up",
              "at_us": 1_764_046_798_123_456_u64, "attempts": 10 },
            { "action": "b", "concept": "Sessioning", "name": "create", "flow": null,
              "reason": "diverged", "at_us": 1 },
        ],
        "dead_count": 3,
        "lag": [{ "stream": "ACTIONS_Profile", "consumer": "workers", "pending": 900,
            "ack_pending": 2 }],
        "failed_last_hour": 2,
        "faults_last_hour": 1,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_appear_as_table_rows_with_links() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    edge.stub_archive(Box::new(|name, _| {
        let rows = matches!(name, "_wrong").then(problems);
        Ok(rows.into_iter().collect())
    }))
    .await?;
    let browser = Browser::open().await?;
    browser.go(&format!("http://{}/#/problems", edge.console())).await?;
    browser.write("#token", TOKEN).await?;
    browser.click("form.locked button").await?;
    browser.until("document.querySelector('main table') !== null").await?;
    let rows = browser
        .run("return [...document.querySelectorAll('main table')].map((table) => [...table.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.querySelector('a')?.getAttribute('href') ?? cell.textContent)))")
        .await?;
    let rows = rows.as_array().unwrap();
    let (dead, lag) = (&rows[0], &rows[1]);
    let link = |number: u64| json!(format!("#/flow/{}", flow_id(number)));
    assert_eq!(dead[0][0], "Profile.authenticate", "{dead}");
    assert_eq!(dead[0][1], "attempts used up", "{dead}");
    assert_eq!((&dead[0][3], &dead[0][4]), (&json!("10"), &link(1)), "{dead}");
    assert_eq!(dead[1][0], "Sessioning.create", "{dead}");
    assert_eq!(lag[0], json!(["ACTIONS_Profile", "workers", "900", "2"]));
    browser.shows("main p.quiet", "concert dead retry").await?;
    for (size, name) in [((1280, 860), "wide"), ((360, 1400), "narrow")] {
        for (scheme, colours) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
            browser.looks(size, scheme).await?;
            is_legible(&browser, &format!("problems, {name}, {colours}")).await?;
            browser.picture(&format!("problems-{name}-{colours}")).await?;
        }
    }
    // A link of an earlier release.
    browser.run("location.hash = '#/wrong'").await?;
    browser.until("document.title === 'Problems – Concert'").await?;
    browser.shows("main h2", "Problems").await?;
    assert_eq!(browser.complaints().await?, Vec::<String>::new());
    Ok(())
}
