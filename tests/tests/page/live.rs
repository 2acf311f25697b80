//! Flows of clients, drawn as they happen.

use crate::browser::{Browser, DOWN, ENTER, SHIFT, TAB, UP};
use crate::running::Running;

const PASSWORD: &str = "a longer word than usual";

#[tokio::test(flavor = "multi_thread")]
async fn login_shows_the_answering_rule_and_where_a_failure_stopped() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.shows("main h2", "Send a request to see its flow").await?;
    browser.shows(".live", "live").await?;

    running.post("/api/auth/createAccount", "ada", PASSWORD).await?;
    browser.shows(".summary", "Answered by rule HandleCreateAccountRequest").await?;

    running.post("/api/auth/login", "ada", "a word that is wrong").await?;
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
    // A click selects another step, and keeps the flow.
    browser.click(".step.answer").await?;
    browser
        .shows(".details .source .called", "Requesting.respond (request, error, status: 401)")
        .await?;
    browser.shows(".details", "\"error\": \"Invalid username or password.\"").await?;

    let login = running.post("/api/auth/login", "ada", PASSWORD).await?;
    browser.run("location.hash = '#/flows'").await?;
    browser.shows("#flow-0", "CreateSessionOnSuccessfulAuthentication").await?;
    browser.click("#flow-0").await?;
    browser
        .shows(".summary .answered", "Answered by rule CreateSessionOnSuccessfulAuthentication")
        .await?;
    browser.shows(".details .source .called", "message: \"Login successful\"").await?;
    assert_eq!(
        browser.run("return document.querySelector('.failed-at')").await?,
        serde_json::Value::Null
    );
    let shown = browser.text("main").await?;
    assert!(!shown.contains(login.text("session")?) && !shown.contains(PASSWORD), "{shown}");
    assert_eq!(browser.complaints().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_control_works_from_the_keyboard() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.shows(".live", "live").await?;
    running.post("/api/auth/createAccount", "ada", PASSWORD).await?;
    browser.shows(".summary .answered", "HandleCreateAccountRequest").await?;
    running.post("/api/auth/login", "ada", PASSWORD).await?;
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
    let login = running.post("/api/auth/login", "ada", "an unknown password").await?;
    let flow = login.headers["concert-flow"].to_str()?;
    let address = format!("{}#/flow/{flow}", running.page());
    browser.go(&address).await?;
    browser.shows(".summary .answered", "RespondToFailedAuthentication").await?;
    assert_eq!(browser.text(".summary .id").await?, flow);
    let other = Browser::open().await?;
    other.go(&address).await?;
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
    let drawn = async {
        browser.shows(".summary .answered", "In progress; no response yet.").await?;
        browser.shows(".step.in_flight", "Profile.authenticate").await?;
        browser.shows(".summary .answered", "RespondToFailedAuthentication").await
    };
    let login = running.post("/api/auth/login", "ada", PASSWORD);
    tokio::try_join!(login, drawn)?;
    assert_eq!(browser.complaints().await?, Vec::<String>::new());
    Ok(())
}
