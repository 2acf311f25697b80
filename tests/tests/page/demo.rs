//! The first use of the console: sign up, log in, log out.

use concert_tests::EdgeWithStubArchive;
use concert_tests::edge_with_stub_archive::TOKEN;

use crate::browser::{Browser, DOWN, ENTER, SHIFT, TAB, UP};
use crate::running::Running;

const PASSWORD: &str = "a longer word than usual";

async fn fill_in(browser: &Browser, password: &str, button: &str) -> anyhow::Result<()> {
    browser.write("#username", "ada").await?;
    browser.write("#password", password).await?;
    browser.click(button).await
}

#[tokio::test(flavor = "multi_thread")]
async fn login_shows_the_answering_rule_and_where_a_failure_stopped() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.shows("main h2", "Send a request to see its flow").await?;
    browser.shows(".live", "live").await?;

    fill_in(&browser, PASSWORD, "#sign-up").await?;
    browser.shows(".summary", "Answered by rule HandleCreateAccountRequest").await?;

    fill_in(&browser, "a word that is wrong", "#log-in").await?;
    browser.shows(".summary h2", "401").await?;
    browser.shows(".summary .answered", "RespondToFailedAuthentication").await?;
    let failed_at = browser.text(".summary .failed-at").await?;
    assert!(
        failed_at.starts_with(
            "Stopped at Profile.authenticate: rule CreateSessionOnSuccessfulAuthentication did not fire"
        ),
        "{failed_at}"
    );
    assert!(
        failed_at.contains("because Profile.authenticate failed: Invalid username or password."),
        "{failed_at}"
    );
    // The diagram marks the rule right below the failed action.
    let rows = browser.run("return [...document.querySelectorAll('.sequence > .steps .step')].map((step) => step.className + ' ' + step.textContent)").await?;
    let rows: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(
        rows[1].starts_with("step refusal") && rows[1].contains("rule HandleLoginRequest"),
        "{rows:?}"
    );
    assert!(
        rows[2].starts_with("step miss")
            && rows[2].contains("CreateSessionOnSuccessfulAuthenticationdid not fire"),
        "{rows:?}"
    );
    assert!(
        rows[3].starts_with("step failed answer")
            && rows[3].contains("RespondToFailedAuthenticationresponse")
            && rows[3].contains("✕ responded 401"),
        "{rows:?}"
    );
    assert_eq!(browser.text(".head.ghost").await?, "Sessioningnot called");
    // The details show the rule and its unmatched line without a click.
    assert!(
        browser
            .text(".details .source .failed")
            .await?
            .contains("Profile.authenticate () : (user)")
    );
    assert!(
        browser
            .text(".details .source .matched")
            .await?
            .contains("Requesting.request (path: \"/auth/login\")")
    );
    // A click selects another step.
    browser.click(".step.answer").await?;
    browser
        .shows(".details .source .called", "Requesting.respond (request, error, status: 401)")
        .await?;
    browser.shows(".details", "\"error\": \"Invalid username or password.\"").await?;

    fill_in(&browser, PASSWORD, "#log-in").await?;
    browser
        .shows(".summary .answered", "Answered by rule CreateSessionOnSuccessfulAuthentication")
        .await?;
    browser.shows(".details .source .called", "message: \"Login successful\"").await?;
    assert_eq!(
        browser.run("return document.querySelector('.failed-at')").await?,
        serde_json::Value::Null
    );
    browser.shows(".demo", "Logged in as ada").await?;
    let session = browser.text(".exchange").await?;
    assert!(session.contains("\"session\": \"") && !session.contains(PASSWORD), "{session}");

    browser.click("#log-out").await?;
    browser.shows(".summary .answered", "Answered by rule HandleLogoutRequest").await?;
    browser.shows(".demo", "Logged out successfully").await?;
    browser.until("document.activeElement.id === 'username'").await?;
    assert_eq!(browser.complaints().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_control_works_from_the_keyboard() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.tab_to("#username", TAB).await?;
    browser.type_text("ada").await?;
    browser.press(&[TAB]).await?;
    browser.type_text(PASSWORD).await?;
    browser.tab_to("#sign-up", TAB).await?;
    browser.press(&[ENTER]).await?;
    browser.shows(".summary .answered", "HandleCreateAccountRequest").await?;
    browser.tab_to("#password", SHIFT).await?;
    // Enter in a field logs in.
    browser.press(&[ENTER]).await?;
    browser.shows(".summary .answered", "CreateSessionOnSuccessfulAuthentication").await?;

    browser.tab_to("button.step", TAB).await?;
    browser.press(&[DOWN, DOWN, UP]).await?;
    browser
        .until(
            "[...document.querySelectorAll('button.step')].indexOf(document.activeElement) === 1",
        )
        .await?;
    let outline =
        browser.run("return getComputedStyle(document.activeElement).outlineStyle").await?;
    assert_eq!(outline, "solid", "the focused step has an outline");
    browser.press(&[ENTER]).await?;
    browser.shows(".details h3", "Profile.authenticate").await?;
    browser.until("document.activeElement.matches('button.step[aria-pressed=\"true\"]')").await?;

    browser.tab_to("nav a[data-view=flows]", SHIFT).await?;
    browser.press(&[ENTER]).await?;
    browser.shows(".state", "2 flows").await?;
    browser.tab_to("#flow-list", TAB).await?;
    browser.press(&[DOWN]).await?;
    browser
        .until("document.activeElement.getAttribute('aria-activedescendant') === 'flow-1'")
        .await?;
    browser.press(&[ENTER]).await?;
    browser.shows(".summary .answered", "HandleCreateAccountRequest").await?;

    browser.tab_to("nav a[data-view=rules]", SHIFT).await?;
    browser.press(&[ENTER]).await?;
    browser.tab_to(".graph [role=link]", TAB).await?;
    browser.press(&[ENTER]).await?;
    browser.until("document.querySelector('.book .text h3')?.textContent === document.activeElement.getAttribute('aria-label').split(',')[0]").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_link_opens_in_another_browser() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    fill_in(&browser, "an unknown password", "#log-in").await?;
    browser.shows(".summary .answered", "RespondToFailedAuthentication").await?;
    let address = browser.run("return location.href").await?;
    let address = address.as_str().unwrap();
    let flow = browser.text(".summary .id").await?;
    assert_eq!(address, format!("{}#/flow/{flow}", running.page()));
    let other = Browser::open().await?;
    other.go(address).await?;
    other.shows(".summary .answered", "RespondToFailedAuthentication").await?;
    other.go(&format!("{}#/flow/0198c5d2-7d11-7c3a-9d38-9b1f0a6d1c11", running.page())).await?;
    other.shows("main", "Flow not found").await?;
    Ok(())
}

/// Passes of the password hash; a login takes seconds.
const SLOW: u32 = 50_000;

#[tokio::test(flavor = "multi_thread")]
async fn slow_login_is_drawn_while_in_progress() -> anyhow::Result<()> {
    let running = Running::hashing(SLOW).await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.shows(".live", "live").await?;
    fill_in(&browser, PASSWORD, "#log-in").await?;
    browser.shows(".summary .answered", "In progress; no response yet.").await?;
    browser.shows(".step.in_flight", "Profile.authenticate").await?;
    browser.shows(".exchange", "Waiting for the response").await?;
    browser.shows(".summary .answered", "RespondToFailedAuthentication").await?;
    assert_eq!(browser.complaints().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_demo_panel_stays_closed_until_it_is_opened() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[]).await?;
    let browser = Browser::open().await?;
    browser.go(&format!("http://{}/", edge.address())).await?;
    browser.write("#token", TOKEN).await?;
    browser.click("form.locked button").await?;
    browser.until("document.title === 'Flow – Concert'").await?;
    let is_open = "document.querySelector('.demo').checkVisibility()";
    browser.until(is_open).await?;
    browser.click(".demo .close").await?;
    browser.until(&format!("!{is_open}")).await?;
    browser.picture("demo-panel-closed").await?;
    browser.run("location.reload()").await?;
    browser.until("document.querySelector('.open-demo')?.checkVisibility()").await?;
    assert_eq!(browser.run(&format!("return {is_open}")).await?, false);
    browser.click(".open-demo").await?;
    browser.until(is_open).await?;
    browser.until("document.activeElement.id === 'username'").await?;
    Ok(())
}
