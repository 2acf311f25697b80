//! A separate browser for each test, controlled over WebDriver.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use concert_tests::binaries::root;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// A window of a browser with an empty profile; dropping this closes it.
pub(crate) struct Browser {
    http: reqwest::Client,
    port: u16,
    session: String,
    _driver: Child,
    _profile: TempDir,
}

/// Timeout of every wait.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Starts of chromedriver until it has a port.
const STARTS: usize = 10;
const WINDOW: (u32, u32) = (1280, 860);
/// Key of an element reference in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// WebDriver codes of keys without a character.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const SHIFT: &str = "\u{e008}";
pub(crate) const ESCAPE: &str = "\u{e00c}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const DOWN: &str = "\u{e015}";
pub(crate) const UP: &str = "\u{e013}";
pub(crate) const RIGHT: &str = "\u{e014}";
pub(crate) const END: &str = "\u{e010}";
pub(crate) const HOME: &str = "\u{e011}";

/// Preferred colour scheme.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// Starts chromedriver; returns it with its port.
async fn start_driver() -> anyhow::Result<(Child, u16)> {
    for _ in 0..STARTS {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run chromedriver; install it with: apt-get install chromium chromium-driver")?;
        let output = driver.stdout.take().context("chromedriver has no stdout")?;
        let mut lines = BufReader::new(output).lines();
        let mut printed = Vec::new();
        while let Some(line) = lines.next_line().await? {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                let port = port.trim_end_matches('.').parse()?;
                // chromedriver blocks if its output pipe is full.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok((driver, port));
            }
            printed.push(line);
        }
        // chromedriver takes a port that is free on IPv6, and exits if a server has it on IPv4.
        let taken = printed.iter().any(|line| line.contains("port not available"));
        ensure!(taken, "chromedriver exited: {}", printed.join("\n"));
    }
    bail!("chromedriver found no free port in {STARTS} starts")
}

impl Browser {
    /// Opens a window, in light colours.
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let (driver, port) = start_driver().await?;
        let profile = tempfile::tempdir()?;
        let mut browser = Self {
            http: reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?,
            port,
            session: String::new(),
            _driver: driver,
            _profile: profile,
        };
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--lang=en",
        ];
        let mut args: Vec<String> = args.map(str::to_owned).to_vec();
        args.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let begun = browser
            .ask("session", json!({ "capabilities": { "alwaysMatch": capabilities } }))
            .await?;
        let id = begun["sessionId"].as_str().context("no session")?;
        browser.session = format!("session/{id}/");
        browser.looks(WINDOW, Scheme::Light).await?;
        Ok(browser)
    }

    /// Sends a command and returns its result.
    async fn ask(&self, command: &str, body: Value) -> anyhow::Result<Value> {
        let url = format!("http://127.0.0.1:{}/{}{command}", self.port, self.session);
        let answer: Value = self.http.post(url).json(&body).send().await?.json().await?;
        let value = answer["value"].clone();
        if let Some(error) = value.get("error").filter(|_| value.get("stacktrace").is_some()) {
            bail!("{command}: {error}: {}", value["message"]);
        }
        Ok(value)
    }

    async fn devtools(&self, command: &str, params: Value) -> anyhow::Result<()> {
        let body = json!({ "cmd": command, "params": params });
        self.ask("goog/cdp/execute", body).await?;
        Ok(())
    }

    /// Sets the window size in pixels and the preferred colour scheme.
    pub(crate) async fn looks(
        &self,
        (width, height): (u32, u32),
        scheme: Scheme,
    ) -> anyhow::Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await?;
        let scheme = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await
    }

    /// Opens a URL.
    pub(crate) async fn go(&self, url: &str) -> anyhow::Result<()> {
        self.ask("url", json!({ "url": url })).await?;
        Ok(())
    }

    /// Runs a script in the page and returns its value.
    pub(crate) async fn run(&self, script: &str) -> anyhow::Result<Value> {
        self.ask("execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Runs a script in the page and returns the value that it passes to its callback.
    pub(crate) async fn called_back(&self, script: &str) -> anyhow::Result<Value> {
        self.ask("execute/async", json!({ "script": script, "args": [] })).await
    }

    /// Waits until a JavaScript expression is truthy, and returns its value.
    pub(crate) async fn until(&self, expression: &str) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let value = self.run(&format!("return {expression}")).await?;
            if !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0 {
                return Ok(value);
            }
            if began.elapsed() > TIMEOUT {
                let shown = self.run("return document.body.innerText").await?;
                bail!(
                    "timed out waiting for `{expression}`; the page shows:\n{}",
                    shown.as_str().unwrap_or_default()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until an element contains a text.
    pub(crate) async fn shows(&self, css: &str, text: &str) -> anyhow::Result<()> {
        let (css, text) = (json!(css), json!(text));
        let script = format!(
            "[...document.querySelectorAll({css})].some((found) => found.textContent.includes({text}))"
        );
        self.until(&script).await?;
        Ok(())
    }

    /// Text of an element.
    pub(crate) async fn text(&self, css: &str) -> anyhow::Result<String> {
        let text = self
            .run(&format!("return document.querySelector({})?.textContent", json!(css)))
            .await?;
        Ok(text.as_str().with_context(|| format!("no {css}"))?.to_owned())
    }

    async fn find(&self, css: &str) -> anyhow::Result<String> {
        self.until(&format!("document.querySelector({}) !== null", json!(css))).await?;
        let found = self.ask("element", json!({ "using": "css selector", "value": css })).await?;
        Ok(found[ELEMENT].as_str().with_context(|| format!("no {css}"))?.to_owned())
    }

    /// Clicks on an element once it exists. If the page redraws it before the click, this clicks on
    /// the new element.
    pub(crate) async fn click(&self, css: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let id = self.find(css).await?;
            match self.ask(&format!("element/{id}/click"), json!({})).await {
                Err(error)
                    if error.to_string().contains("stale element") && began.elapsed() < TIMEOUT => {
                }
                clicked => return clicked.map(drop),
            }
        }
    }

    /// Replaces the text of a field.
    pub(crate) async fn write(&self, css: &str, text: &str) -> anyhow::Result<()> {
        let id = self.find(css).await?;
        self.ask(&format!("element/{id}/clear"), json!({})).await?;
        self.ask(&format!("element/{id}/value"), json!({ "text": text })).await?;
        Ok(())
    }

    /// Chooses a file in a field for files.
    pub(crate) async fn choose(&self, css: &str, file: &Path) -> anyhow::Result<()> {
        let id = self.find(css).await?;
        self.ask(&format!("element/{id}/value"), json!({ "text": file })).await?;
        Ok(())
    }

    /// Presses keys in sequence at the current focus.
    pub(crate) async fn press(&self, keys: &[&str]) -> anyhow::Result<()> {
        self.strike(keys.iter().flat_map(|key| [("keyDown", *key), ("keyUp", *key)])).await
    }

    /// Moves the focus one element back.
    pub(crate) async fn back_tab(&self) -> anyhow::Result<()> {
        self.strike([("keyDown", SHIFT), ("keyDown", TAB), ("keyUp", TAB), ("keyUp", SHIFT)]).await
    }

    /// Types a text at the current focus.
    pub(crate) async fn type_text(&self, text: &str) -> anyhow::Result<()> {
        let keys: Vec<String> = text.chars().map(String::from).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.press(&keys).await
    }

    async fn strike<'a>(
        &self,
        keys: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<()> {
        let keys: Vec<Value> =
            keys.into_iter().map(|(kind, key)| json!({ "type": kind, "value": key })).collect();
        self.ask(
            "actions",
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] }),
        )
        .await?;
        Ok(())
    }

    /// Moves the focus from element to element until it reaches this one.
    pub(crate) async fn tab_to(&self, css: &str, step: &str) -> anyhow::Result<()> {
        let is_there = format!("return document.activeElement?.matches({}) ?? false", json!(css));
        for _ in 0..80 {
            match step {
                SHIFT => self.back_tab().await?,
                _ => self.press(&[TAB]).await?,
            }
            if self.run(&is_there).await? == true {
                return Ok(());
            }
        }
        bail!("the keyboard focus does not reach {css}")
    }

    /// Saves a screenshot as `target/page/<name>.png`.
    pub(crate) async fn picture(&self, name: &str) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/{}screenshot", self.port, self.session);
        let answer: Value = self.http.get(url).send().await?.json().await?;
        let encoded = answer["value"].as_str().context("no screenshot")?;
        let dir = pictures();
        std::fs::create_dir_all(&dir)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded)?;
        ensure!(bytes.starts_with(b"\x89PNG"), "the screenshot is not a PNG");
        std::fs::write(dir.join(format!("{name}.png")), bytes)?;
        Ok(())
    }

    /// Messages in the browser console since the last call, without HTTP errors that tests expect.
    pub(crate) async fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let lines = self.ask("se/log", json!({ "type": "browser" })).await?;
        let lines = lines.as_array().context("no console")?.iter();
        let messages = lines.filter_map(|line| line["message"].as_str().map(str::to_owned));
        Ok(messages
            .filter(|message| !message.contains("the server responded with a status of"))
            .collect())
    }
}

fn pictures() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), PathBuf::from)
        .join("page")
}

impl Drop for Browser {
    /// Ends the session first: a killed driver leaves its browser running.
    fn drop(&mut self) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return;
        };
        let session = self.session.trim_end_matches('/');
        let request =
            format!("DELETE /{session} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok();
        if stream.write_all(request.as_bytes()).is_ok() {
            // The response arrives after the browser has exited.
            stream.read_to_end(&mut Vec::new()).ok();
        }
    }
}
