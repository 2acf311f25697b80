//! What somebody sees who uses the page for the first time.

use crate::browser::{Browser, DOWN, ENTER, SHIFT, TAB, UP};
use crate::running::Running;

const PASSWORD: &str = "a longer word than usual";

async fn fill_in(browser: &Browser, password: &str, button: &str) -> anyhow::Result<()> {
    browser.write("#username", "ada").await?;
    browser.write("#password", password).await?;
    browser.click(button).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_in_sees_which_rule_answered_and_whoever_fails_sees_where_it_turned_off()
-> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.shows("main h2", "Log in, and watch what happens").await?;
    browser.shows(".live", "live").await?;

    fill_in(&browser, PASSWORD, "#sign-up").await?;
    browser.shows(".telling", "Answered by the rule HandleCreateAccountRequest").await?;

    fill_in(&browser, "a word that is wrong", "#log-in").await?;
    browser.shows(".telling h2", "401").await?;
    browser.shows(".telling .answered", "RespondToFailedAuthentication").await?;
    let turned = browser.text(".telling .turned").await?;
    assert!(
        turned.starts_with(
            "It turned off at Profile.authenticate: CreateSessionOnSuccessfulAuthentication did not go on"
        ),
        "{turned}"
    );
    assert!(
        turned.contains("because Profile.authenticate failed: Invalid username or password."),
        "{turned}"
    );
    // At the arrow itself, right below the action that failed, and on the way to what was not
    // reached.
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
            && rows[2].contains("CreateSessionOnSuccessfulAuthenticationdid not go on"),
        "{rows:?}"
    );
    assert!(
        rows[3].starts_with("step success answer")
            && rows[3].contains("RespondToFailedAuthenticationthe answer"),
        "{rows:?}"
    );
    assert_eq!(browser.text(".head.ghost").await?, "Sessioningnot reached");
    // Without a click, the rule's text and the line of it that did not come.
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
    // A click on another arrow shows that one.
    browser.click(".step.answer").await?;
    browser
        .shows(".details .source .called", "Requesting.respond (request, error, status: 401)")
        .await?;
    browser.shows(".details", "\"error\": \"Invalid username or password.\"").await?;

    fill_in(&browser, PASSWORD, "#log-in").await?;
    browser
        .shows(".telling .answered", "Answered by the rule CreateSessionOnSuccessfulAuthentication")
        .await?;
    browser.shows(".details .source .called", "message: \"Login successful\"").await?;
    assert_eq!(
        browser.run("return document.querySelector('.turned')").await?,
        serde_json::Value::Null
    );
    browser.shows(".account", "Logged in as ada").await?;
    let session = browser.text(".exchange").await?;
    assert!(session.contains("\"session\": \"") && !session.contains(PASSWORD), "{session}");

    browser.click("#log-out").await?;
    browser.shows(".telling .answered", "Answered by the rule HandleLogoutRequest").await?;
    browser.shows(".account", "Logged out successfully").await?;
    browser.until("document.activeElement.id === 'username'").await?;
    assert_eq!(browser.complaints().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_done_from_the_keyboard() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.tab_to("#username", TAB).await?;
    browser.type_text("ada").await?;
    browser.press(&[TAB]).await?;
    browser.type_text(PASSWORD).await?;
    browser.tab_to("#sign-up", TAB).await?;
    browser.press(&[ENTER]).await?;
    browser.shows(".telling .answered", "HandleCreateAccountRequest").await?;
    browser.tab_to("#password", SHIFT).await?;
    // Enter in the field logs in.
    browser.press(&[ENTER]).await?;
    browser.shows(".telling .answered", "CreateSessionOnSuccessfulAuthentication").await?;

    browser.tab_to("button.step", TAB).await?;
    browser.press(&[DOWN, DOWN, UP]).await?;
    browser
        .until(
            "[...document.querySelectorAll('button.step')].indexOf(document.activeElement) === 1",
        )
        .await?;
    let outline =
        browser.run("return getComputedStyle(document.activeElement).outlineStyle").await?;
    assert_eq!(outline, "solid", "whoever uses the keyboard sees where they are");
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
    browser.shows(".telling .answered", "HandleCreateAccountRequest").await?;

    browser.tab_to("nav a[data-view=rules]", SHIFT).await?;
    browser.press(&[ENTER]).await?;
    browser.tab_to(".graph [role=link]", TAB).await?;
    browser.press(&[ENTER]).await?;
    browser.until("document.querySelector('.book .text h3')?.textContent === document.activeElement.getAttribute('aria-label').split(',')[0]").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_has_an_address_that_can_be_handed_on() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    fill_in(&browser, "nobody has this one", "#log-in").await?;
    browser.shows(".telling .answered", "RespondToFailedAuthentication").await?;
    let address = browser.run("return location.href").await?;
    let address = address.as_str().unwrap();
    let flow = browser.text(".telling .id").await?;
    assert_eq!(address, format!("{}#/flow/{flow}", running.page()));
    let other = Browser::open().await?;
    other.go(address).await?;
    other.shows(".telling .answered", "RespondToFailedAuthentication").await?;
    // What is nobody's flow is told of in words.
    other.go(&format!("{}#/flow/0198c5d2-7d11-7c3a-9d38-9b1f0a6d1c11", running.page())).await?;
    other.shows("main", "There is no such flow").await?;
    Ok(())
}

/// Passes of a hash over a little memory, so that a login takes seconds.
const SLOW: u32 = 50_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_login_is_drawn_while_it_is_under_way() -> anyhow::Result<()> {
    let running = Running::hashing(SLOW).await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.shows(".live", "live").await?;
    fill_in(&browser, PASSWORD, "#log-in").await?;
    browser.shows(".telling .answered", "Under way: nothing has answered yet.").await?;
    browser.shows(".step.in_flight", "Profile.authenticate").await?;
    browser.shows(".exchange", "waiting for the answer").await?;
    browser.shows(".telling .answered", "RespondToFailedAuthentication").await?;
    assert_eq!(browser.complaints().await?, Vec::<String>::new());
    Ok(())
}
