//! The list of recent flows, with ten thousand rows.

use concert_tests::EdgeWithStubArchive;
use concert_tests::edge_with_stub_archive::TOKEN;
use serde_json::{Value, json};

use crate::browser::{Browser, DOWN, END, ENTER, HOME};

const FLOWS: u64 = 10_000;
/// Rows per query of the page.
const PAGE: u64 = 500;
/// Rows drawn above and below the visible ones, in total, as in `flows.js`.
const OVERSCAN_ROWS: u64 = 16;

pub(crate) fn flow_id(number: u64) -> String {
    format!("0198c5d2-7d11-7c3a-9d38-{number:012}")
}

fn row(number: u64) -> Value {
    json!({
        "flow": flow_id(number), "path": "/auth/login", "root": "Requesting.request",
        "began_us": 1_764_046_798_123_456 - number * 1000,
        "took_us": 1000 + number,
        "outcome": if number.is_multiple_of(3) { "failed" } else { "succeeded" }, "status": 200,
        "answered_by": format!("Rule{number}"), "actions": 3, "cursor": number.to_string(),
    })
}

fn flows(input: &Value) -> Vec<Value> {
    let before = input["before"].as_str().and_then(|cursor| cursor.parse::<u64>().ok());
    let wanted = input["outcome"].as_str();
    let text = input["text"].as_str().unwrap_or_default();
    let all = before.map_or(0, |cursor| cursor + 1)..FLOWS;
    let rows = all
        .map(row)
        .filter(|row| wanted.is_none_or(|outcome| row["outcome"] == outcome))
        .filter(|row| row["answered_by"].to_string().to_lowercase().contains(text));
    let limit = input["limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
    rows.take(limit.unwrap_or(50)).collect()
}

/// An edge with [`FLOWS`] flows, and a signed-in page.
async fn opened() -> anyhow::Result<(EdgeWithStubArchive, Browser)> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    edge.stub_archive(Box::new(|name, input| {
        Ok(match name {
            "_flows" => flows(input),
            _ => Vec::new(),
        })
    }))
    .await?;
    let browser = Browser::open().await?;
    browser.go(&format!("http://{}/#/flows", edge.console())).await?;
    browser.write("#token", TOKEN).await?;
    browser.click("form.locked button").await?;
    browser.shows(".state", "500 flows (scroll for more)").await?;
    Ok((edge, browser))
}

/// Scrolls through the list, and counts the nodes added per frame.
const SCROLL: &str = r"
const done = arguments[0];
const list = document.querySelector('#flow-list');
let made = 0, most = 0, frames = 0, elements = 0;
new MutationObserver((records) => { for (const record of records) made += record.addedNodes.length; }).observe(list, { childList: true, subtree: true });
list.scrollTop = 0;
const step = () => {
  most = Math.max(most, made);
  elements = Math.max(elements, document.getElementsByTagName('*').length);
  made = 0;
  frames += 1;
  if (frames > 150) return done({ most, elements, at: list.scrollTop });
  list.scrollTop += 3461;
  requestAnimationFrame(step);
};
requestAnimationFrame(() => { made = 0; requestAnimationFrame(step); });
";

#[tokio::test(flavor = "multi_thread")]
async fn long_list_has_only_visible_rows_in_the_document() -> anyhow::Result<()> {
    let (_edge, browser) = opened().await?;
    browser.run("document.querySelector('#flow-list').focus()").await?;
    for page in 1..=FLOWS / PAGE {
        browser.shows(".state", &format!("{} flows", page * PAGE)).await?;
        browser.press(&[END]).await?;
        browser
            .until(&format!("document.querySelector('#flow-{}') !== null", page * PAGE - 1))
            .await?;
    }
    browser.shows(&format!("#flow-{}", FLOWS - 1), "Rule9999").await?;
    let in_sight = browser
        .run("return Math.ceil(document.querySelector('#flow-list').clientHeight / 52) + 1")
        .await?;
    let most_rows = in_sight.as_u64().unwrap() + OVERSCAN_ROWS;
    let rows =
        browser.run("return document.querySelectorAll('#flow-list [role=option]').length").await?;
    assert!(rows.as_u64().unwrap() <= most_rows, "{rows} rows are drawn, {in_sight} are visible");

    let found = browser.called_back(SCROLL).await?;
    assert!(found["at"].as_u64() > Some(500_000), "{found}");
    assert!(found["most"].as_u64() > Some(5), "nothing was drawn: {found}");
    assert!(
        found["most"].as_u64() <= Some(most_rows),
        "more than {most_rows} rows for one frame: {found}"
    );
    assert!(found["elements"].as_u64() < Some(1000), "{found}");

    // The keyboard selection does not depend on the scroll position.
    browser.press(&[HOME, DOWN, DOWN]).await?;
    browser
        .until("document.querySelector('#flow-2')?.getAttribute('aria-selected') === 'true'")
        .await?;
    browser.press(&[ENTER]).await?;
    browser.until(&format!("location.hash === '#/flow/{}'", flow_id(2))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_query_the_archive_and_new_flows_appear_on_top() -> anyhow::Result<()> {
    let (edge, browser) = opened().await?;
    edge.take_queries();
    browser.run("const select = document.querySelector('#filter-outcome'); select.value = 'failed'; select.dispatchEvent(new Event('change'))").await?;
    browser.shows("#flow-1", "Rule3").await?;
    let asked = edge.take_queries();
    assert!(
        asked.iter().any(|(name, input)| name == "_flows" && input["outcome"] == "failed"),
        "{asked:?}"
    );
    // The search includes rows that are not loaded.
    browser.write("#filter-text", "RULE999").await?;
    browser.shows("#flow-0", "Rule999").await?;
    browser.shows("#flow-4", "Rule9999").await?;
    browser.shows(".state", "5 flows.").await?;
    browser.write("#filter-text", "no such thing").await?;
    browser.shows(".state", "No flows match these filters").await?;
    browser.write("#filter-text", " ").await?;
    browser.shows("#flow-0", "Rule0").await?;

    browser.shows(".live", "live").await?;
    let mut fresh = row(20_000);
    fresh["outcome"] = json!("failed");
    edge.notify(&[fresh.clone()]).await?;
    browser.shows("#flow-0", "Rule20000").await?;
    // An update replaces its row; a flow that does not match the filter is ignored.
    fresh["answered_by"] = json!("AnotherRule");
    edge.notify(&[fresh, row(20_002)]).await?;
    browser.shows("#flow-0", "AnotherRule").await?;
    browser.shows("#flow-1", "Rule0").await?;
    // While scrolled down, new flows are only counted.
    browser.run("document.querySelector('#flow-list').scrollTop = 5000").await?;
    browser.until("document.querySelector('#flow-99') !== null").await?;
    let mut later = row(20_004);
    later["outcome"] = json!("failed");
    edge.notify(&[later]).await?;
    browser.shows(".fresh", "1 new flow").await?;
    assert_eq!(browser.run("return document.querySelector('#flow-list').scrollTop").await?, 5000);
    browser.click(".fresh").await?;
    browser.shows("#flow-0", "Rule20004").await?;
    Ok(())
}
