//! Conduit, started with one command.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::http::{self, Answer};
use concert_tests::running::{self, START};
use concert_tests::{binaries, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const STOP: Duration = Duration::from_secs(60);

/// A running Conduit.
pub(crate) struct App {
    dir: TempDir,
    child: Child,
    address: SocketAddr,
    /// Methods and paths of all requests, with the statuses of their responses.
    seen: Mutex<BTreeSet<(String, u16)>>,
}

/// A client of Conduit.
pub(crate) struct User<'a> {
    app: &'a App,
    token: Option<String>,
}

fn command() -> Command {
    let mut command = binaries::command(env!("CARGO_BIN_EXE_conduit").as_ref());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// The body of a registration.
pub(crate) fn user(username: &str, email: &str, password: &str) -> Value {
    let user = json!({ "username": username, "email": email, "password": password });
    json!({ "user": user })
}

/// The body of a new article.
pub(crate) fn article(title: &str, tags: &[&str]) -> Value {
    let content = json!({ "title": title, "description": "d", "body": "b", "tagList": tags });
    json!({ "article": content })
}

impl App {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let checked = binaries::finished(command().args(["check", "--deny-warnings"])).await?;
        ensure!(checked.contains("8 concepts"), "{checked}");
        let dir = tempfile::tempdir()?;
        let (child, address) = running::up(command(), dir.path(), &running::CONDUIT).await?;
        Ok(Self { dir, child, address, seen: Mutex::default() })
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        binaries::signal(&self.child, Signal::INT)?;
        let ended = tokio::time::timeout(STOP, self.child.wait()).await??;
        ensure!(ended.success(), "{ended}");
        Ok(())
    }

    /// The output of `flow`, when it contains this text.
    pub(crate) async fn trace(&self, flow: &str, text: &str) -> anyhow::Result<String> {
        until("the archive has the flow", START, async || {
            let mut trace = command();
            trace.args(["flow", flow, "--data-dir"]).arg(self.dir.path().join("data"));
            let trace = trace.output().await?;
            let trace = String::from_utf8_lossy(&trace.stdout).into_owned();
            Ok(trace.contains(text).then_some(trace))
        })
        .await
    }

    /// Sends a request with any body and headers.
    pub(crate) async fn send(
        &self,
        request: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        let (method, path) = request.split_once(' ').context("a method")?;
        let path_and_query = format!("/api{path}");
        let answer = http::request(method, self.address, &path_and_query, body, headers).await?;
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert((format!("{method} {path}"), answer.status));
        Ok(answer)
    }

    /// Returns whether a request got this status. A segment `*` is any segment.
    pub(crate) fn has_seen(&self, endpoint: &str, status: u16) -> bool {
        let fits = |request: &str| {
            let (segments, wanted) = (request.split('/'), endpoint.split('/'));
            segments.clone().count() == wanted.clone().count()
                && segments.zip(wanted).all(|(segment, wanted)| ["*", segment].contains(&wanted))
        };
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|(request, found)| *found == status && fits(request))
    }

    pub(crate) const fn guest(&self) -> User<'_> {
        User { app: self, token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> User<'_> {
        User { app: self, token: Some(token.to_owned()) }
    }

    /// Registers a user, who is logged in then.
    pub(crate) async fn register(&self, username: &str) -> anyhow::Result<User<'_>> {
        let email = format!("{username}@x.org");
        let made = self.guest().post("/users", user(username, &email, "password")).await?;
        let token = made.body.pointer("/user/token").and_then(Value::as_str);
        Ok(self.with_token(token.with_context(|| format!("{made:?}"))?))
    }
}

impl User<'_> {
    /// Sends a request; null is no body.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Value,
    ) -> anyhow::Result<Answer> {
        let token = self.token.as_ref().map(|token| format!("Token {token}"));
        let mut headers = Vec::new();
        headers.extend(token.as_deref().map(|token| ("authorization", token)));
        let mut bytes = Vec::new();
        if !body.is_null() {
            headers.push(("content-type", "application/json"));
            bytes = body.to_string().into_bytes();
        }
        self.app.send(&format!("{method} {path}"), bytes, &headers).await
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.request("GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Answer> {
        self.request("POST", path, body).await
    }

    /// Sends a request, and checks the response.
    pub(crate) async fn gets(
        &self,
        method: &str,
        path: &str,
        body: Value,
        status: u16,
        expected: Value,
    ) -> anyhow::Result<()> {
        let sent = body.clone();
        let answer = self.request(method, path, body).await?;
        assert_eq!((answer.status, &answer.body), (status, &expected), "{method} {path} {sent}");
        Ok(())
    }

    /// Creates an article and returns its slug.
    pub(crate) async fn article(&self, title: &str, tags: &[&str]) -> anyhow::Result<String> {
        let made = self.post("/articles", article(title, tags)).await?;
        let slug = made.body.pointer("/article/slug").and_then(Value::as_str);
        Ok(slug.with_context(|| format!("{made:?}"))?.to_owned())
    }
}
