//! Appearance: light, dark and narrow windows, and the contrast of texts.

use serde_json::Value;

use crate::browser::{Browser, Scheme};
use crate::running::Running;

const PASSWORD: &str = "a longer word than usual";

/// Finds texts with a contrast below 4.5 to 1 (WCAG 2, level AA).
const FAINT: &str = r"
const channels = (color) => (color.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
const luminance = ([red, green, blue]) => {
  const part = (value) => { const share = value / 255; return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = channels(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const faint = [];
let seen = 0;
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || element.closest('svg, script, noscript, option, [aria-hidden=true]') || !element.checkVisibility() || element.disabled) continue;
  seen += 1;
  const [one, other] = [luminance(channels(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
  const ratio = (one + 0.05) / (other + 0.05);
  if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${element.className}: ${texts.currentNode.data.trim()}`);
}
return { seen, faint };
";

pub(crate) async fn is_legible(browser: &Browser, what: &str) -> anyhow::Result<()> {
    let found = browser.run(FAINT).await?;
    assert!(found["seen"].as_u64() > Some(5), "{what}: {found}");
    assert_eq!(found["faint"], Value::Array(Vec::new()), "{what}");
    let (wide, window) = ("document.documentElement.scrollWidth", "window.innerWidth");
    let fits = browser.run(&format!("return {wide} <= {window}")).await?;
    assert_eq!(fits, true, "{what} is wider than the window");
    let text = browser.text("body").await?;
    assert!(!text.contains("[object "), "{what} shows an object: {text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_is_legible_in_every_scheme_and_width() -> anyhow::Result<()> {
    let running = Running::start().await?;
    let browser = Browser::open().await?;
    browser.go(&running.page()).await?;
    browser.shows(".live", "live").await?;
    is_legible(&browser, "the start").await?;
    browser.picture("start").await?;
    let mut flows = Vec::new();
    for (path, password) in [
        ("/api/auth/createAccount", PASSWORD),
        ("/api/auth/login", "a word that is wrong"),
        ("/api/auth/login", PASSWORD),
    ] {
        let answer = running.post(path, "ada", password).await?;
        flows.push(format!("#/flow/{}", answer.headers["concert-flow"].to_str()?));
    }
    browser.shows(".summary .answered", "CreateSessionOnSuccessfulAuthentication").await?;

    let views = [
        ("failed-login", &*flows[1], ".details .source", 1),
        ("login", &*flows[2], ".details .source", 1),
        // The sign-up and both logins.
        ("flows", "#/flows", "#flow-list .row", 3),
        ("rules", "#/rules/CreateSessionOnSuccessfulAuthentication", ".book .source", 1),
        ("problems", "#/problems", ".cards", 1),
    ];
    for (size, name) in [((1280, 860), "wide"), ((360, 1400), "narrow")] {
        for (scheme, colours) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
            browser.looks(size, scheme).await?;
            for (view, address, shown, count) in views {
                browser.run(&format!("location.hash = '{address}'")).await?;
                browser
                    .until(&format!("document.querySelectorAll('main {shown}').length >= {count}"))
                    .await?;
                is_legible(&browser, &format!("{view}, {name}, {colours}")).await?;
                browser
                    .run("document.querySelector(innerWidth < 900 ? 'main' : 'body').scrollIntoView()")
                    .await?;
                browser.picture(&format!("{view}-{name}-{colours}")).await?;
            }
        }
    }
    Ok(())
}
