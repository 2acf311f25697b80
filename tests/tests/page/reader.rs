//! The frontend of the reading app, used like a person uses it.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::{Browser, ENTER, ESCAPE, RIGHT, SHIFT, Scheme, TAB};
use crate::epub;
use crate::looks::is_legible;
use crate::running::Running;

const PASSWORD: &str = "a longer word than usual";

/// The application with an account whose owner is logged in.
async fn signed_up() -> anyhow::Result<(Running, Browser)> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.app()).await?;
    browser.shows("h1", "Welcome back").await?;
    browser.click("a[href='#/signup']").await?;
    browser.shows("h1", "Create an account").await?;
    browser.write("[name=username]", "ada").await?;
    browser.write("[name=password]", PASSWORD).await?;
    browser.click("form button.primary").await?;
    browser.shows("h2", "Your library is empty").await?;
    Ok((running, browser))
}

/// Uploads the book.
async fn upload(browser: &Browser) -> anyhow::Result<TempDir> {
    let dir = tempfile::tempdir()?;
    browser.choose("#upload", &epub::make(dir.path()).await?).await?;
    browser.shows(".book .name", epub::TITLE).await?;
    Ok(dir)
}

async fn open(browser: &Browser) -> anyhow::Result<()> {
    browser.click(".book .open").await?;
    in_book(browser, "querySelector('#p20')").await?;
    browser.shows(".where", "The Harbour").await
}

/// Waits until an expression of the book's document is truthy.
async fn in_book(browser: &Browser, expression: &str) -> anyhow::Result<()> {
    let book = "document.querySelector('iframe')?.contentDocument";
    // Not the value: the driver cannot return an element of a frame.
    browser.until(&format!("Boolean({book}?.{expression})")).await?;
    Ok(())
}

/// Selects the first characters of a paragraph.
async fn select(browser: &Browser, paragraph: &str) -> anyhow::Result<()> {
    let text = format!("doc.querySelector('#{paragraph}').firstChild");
    browser
        .run(&format!(
            "const doc = document.querySelector('iframe').contentDocument; \
             doc.getSelection().setBaseAndExtent({text}, 0, {text}, 11)"
        ))
        .await?;
    browser.until("document.querySelector('.pop')?.checkVisibility()").await?;
    Ok(())
}

async fn visit(browser: &Browser, view: &str, shown: &str) -> anyhow::Result<()> {
    browser.run(&format!("location.hash = '#/{view}'")).await?;
    browser.until(&format!("document.querySelector('main {shown}')")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_works_from_sign_up_to_deletion() -> anyhow::Result<()> {
    let (_running, browser) = signed_up().await?;
    // Scripts cannot read the session.
    let seen = browser.run("return document.cookie + JSON.stringify(localStorage)").await?;
    let seen = seen.as_str().unwrap();
    assert!(seen.contains("ada") && !seen.contains("session"), "{seen}");

    let _file = upload(&browser).await?;
    browser.shows(".book .by", "Ada Marsh").await?;
    open(&browser).await?;
    let styles = "const frame = document.querySelector('iframe'); const doc = frame.contentDocument; \
        const of = (css) => frame.contentWindow.getComputedStyle(doc.querySelector(css)); \
        return [of('h1').textAlign, of('p').fontWeight, of('.box').backgroundImage.slice(0, 9)]";
    assert_eq!(browser.run(styles).await?, json!(["center", "700", "url(\"blob"]));
    in_book(&browser, "images[0].naturalWidth").await?;
    assert_eq!(browser.run("return window.hacked ?? null").await?, Value::Null);

    select(&browser, "p2").await?;
    browser.click(".pop .colour:nth-child(2)").await?;
    browser.shows("#toast", "Marked.").await?;
    select(&browser, "p4").await?;
    browser.click(".pop .quiet").await?;
    browser.write(".note.edited textarea", "Why does it rain?").await?;
    browser.click(".note.edited .primary").await?;
    browser.shows(".note-text", "Why does it rain?").await?;
    browser.shows(".notes-panel .hint", "2 notes").await?;
    browser.write("#notes-search", "zebra").await?;
    browser.shows(".notes-panel .hint", "No note has these words").await?;
    browser.write("#notes-search", "rain").await?;
    browser.shows(".notes-panel .hint", "1 note").await?;
    browser.shows(".note-quote", "Paragraph 4").await?;

    browser.click("[data-panel=text]").await?;
    browser
        .run(
            "const size = document.querySelector('#size'); size.value = 24; \
             size.dispatchEvent(new Event('input'))",
        )
        .await?;
    browser.shows(".saved", "Saved.").await?;
    browser.click("[data-panel=contents]").await?;
    browser.click(".toc li:nth-child(3) button").await?;
    browser.shows(".where", "The Return").await?;
    browser.click(".reader-top a").await?;
    browser.shows(".book .state", "Continue reading").await?;
    // The place, the size and the notes are kept.
    browser.click(".book .open").await?;
    browser.shows(".where", "The Return").await?;
    in_book(&browser, "documentElement.style.getPropertyValue('--size') === '24px'").await?;
    browser.click("[data-panel=notes]").await?;
    browser.shows(".notes-panel .hint", "2 notes").await?;

    visit(&browser, "statistics", ".chart").await?;
    browser.shows(".rows .row-name", epub::TITLE).await?;
    visit(&browser, "settings", ".sample").await?;
    visit(&browser, "account", ".danger-zone").await?;
    browser.shows(".head strong", "ada").await?;
    browser.click("#log-out").await?;
    browser.shows("h1", "Welcome back").await?;
    browser.write("[name=username]", "ada").await?;
    browser.write("[name=password]", "a word that is wrong").await?;
    browser.click("form button.primary").await?;
    browser.shows("form .error", "Invalid username or password.").await?;
    browser.write("[name=password]", PASSWORD).await?;
    browser.click("form button.primary").await?;
    browser.shows(".book .name", epub::TITLE).await?;

    visit(&browser, "account", ".danger-zone").await?;
    browser.click(".danger-zone .danger").await?;
    browser.write("dialog [type=password]", PASSWORD).await?;
    browser.click("dialog .danger").await?;
    browser.shows("h1", "Create an account").await?;
    // The browser reports the scripts and styles of the book when a chapter is parsed.
    let mut complaints = browser.complaints().await?;
    complaints.retain(|complaint| !complaint.contains("/js/chapter.js "));
    assert_eq!(complaints, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn page_links_to_the_flow_of_its_last_request() -> anyhow::Result<()> {
    let (running, browser) = signed_up().await?;
    visit(&browser, "account", ".danger-zone").await?;
    browser.shows("a.flow[title^='auth/sessions']", "What this did").await?;
    let link = browser.run("return document.querySelector('a.flow').href").await?;
    let link = link.as_str().unwrap();
    assert!(link.starts_with(&format!("{}#/flow/", running.page())), "{link}");
    browser.go(link).await?;
    browser.shows(".summary h2", "/auth/sessions").await?;
    // Its page cannot read the console.
    browser.go(&running.app()).await?;
    browser.shows("h2", "Your library is empty").await?;
    let read = format!(
        "const done = arguments[0]; fetch('{}_concert/api/flows').then(() => done('read'), (error) => done(error.name))",
        running.page()
    );
    assert_eq!(browser.called_back(&read).await?, "TypeError");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_works_from_the_keyboard() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&format!("{}#/signup", running.app())).await?;
    browser.until("document.activeElement.name === 'username'").await?;
    browser.type_text("ada").await?;
    browser.press(&[TAB]).await?;
    browser.type_text(PASSWORD).await?;
    browser.press(&[ENTER]).await?;
    browser.shows("h2", "Your library is empty").await?;
    let _file = upload(&browser).await?;
    browser.tab_to(".book .open", TAB).await?;
    browser.press(&[ENTER]).await?;
    browser.shows(".where", "The Harbour").await?;
    in_book(&browser, "querySelector('#p20')").await?;
    browser.run("document.querySelector('iframe').focus()").await?;
    for _ in 0..20 {
        browser.press(&[RIGHT]).await?;
    }
    browser.until("!document.querySelector('.where').textContent.includes('Harbour')").await?;
    browser.tab_to("[data-panel=notes]", TAB).await?;
    browser.press(&[ENTER]).await?;
    browser.until("document.activeElement.id === 'panel'").await?;
    browser.press(&[ESCAPE]).await?;
    browser.until("document.activeElement.dataset.panel === 'notes'").await?;
    browser.tab_to("a[href='#/library']", SHIFT).await?;
    browser.press(&[ENTER]).await?;
    browser.shows(".book .state", "Continue reading").await?;
    browser.tab_to("nav a[data-view=account]", TAB).await?;
    browser.press(&[ENTER]).await?;
    browser.tab_to("#log-out", TAB).await?;
    browser.press(&[ENTER]).await?;
    browser.shows("h1", "Welcome back").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_is_legible_in_every_scheme_and_width() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.app()).await?;
    for (view, shown) in [("login", "form"), ("signup", ".hint")] {
        visit(&browser, view, shown).await?;
        in_every_look(&browser, view).await?;
    }
    browser.write("[name=username]", "ada").await?;
    browser.write("[name=password]", PASSWORD).await?;
    browser.click("form button.primary").await?;
    browser.shows("h2", "Your library is empty").await?;
    in_every_look(&browser, "empty").await?;
    let _file = upload(&browser).await?;
    in_every_look(&browser, "library").await?;
    open(&browser).await?;
    in_every_look(&browser, "reader").await?;
    select(&browser, "p2").await?;
    browser.click(".pop .quiet").await?;
    browser.write(".note.edited textarea", "Why does it rain?").await?;
    browser.click(".note.edited .primary").await?;
    browser.shows(".note-text", "Why does it rain?").await?;
    in_every_look(&browser, "notes").await?;
    for (panel, shown) in [("contents", ".toc"), ("text", "#size")] {
        browser.click(&format!("[data-panel={panel}]")).await?;
        browser.until(&format!("document.querySelector('{shown}')")).await?;
        in_every_look(&browser, panel).await?;
    }
    for (view, shown) in
        [("statistics", ".chart"), ("settings", ".sample"), ("account", ".danger-zone")]
    {
        visit(&browser, view, shown).await?;
        in_every_look(&browser, view).await?;
    }
    Ok(())
}

async fn in_every_look(browser: &Browser, view: &str) -> anyhow::Result<()> {
    for (size, name) in [((1280, 860), "wide"), ((360, 740), "narrow")] {
        for (scheme, colours) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
            browser.looks(size, scheme).await?;
            is_legible(browser, &format!("{view}, {name}, {colours}")).await?;
            browser.picture(&format!("app-{view}-{name}-{colours}")).await?;
        }
    }
    browser.looks((1280, 860), Scheme::Light).await
}
