//! User scenarios, alternating between two edges.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use concert_tests::{Answer, http};
use serde_json::{Value, json};

use crate::stack::Stack;

pub(crate) const PASSWORD: &str = "correct horse battery";
/// Number of concurrent registrations of one name.
const RIVALS: usize = 50;

/// Number of responses by path and status.
pub(crate) type Done = BTreeMap<(String, u16), u32>;

struct People {
    edges: [SocketAddr; 2],
    done: Done,
}

impl People {
    fn counted(&mut self, path: &str, answer: &Answer) {
        *self.done.entry((path.to_owned(), answer.status)).or_default() += 1;
    }

    /// Sends a request to the edge that the previous one did not use.
    async fn ask(&mut self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.ask_with(path, body, &[]).await
    }

    async fn ask_with(
        &mut self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        self.edges.reverse();
        let [edge, _] = self.edges;
        let headers = [&[("content-type", "application/json")], headers].concat();
        let answer =
            http::post_with(edge, &format!("/api{path}"), body.to_string().into_bytes(), &headers)
                .await?;
        self.counted(path, &answer);
        Ok(answer)
    }

    async fn is(
        &mut self,
        path: &str,
        body: Value,
        status: u16,
        contains: &str,
    ) -> anyhow::Result<Answer> {
        let answer = self.ask(path, &body).await?;
        let is = answer.status == status && answer.body.to_string().contains(contains);
        ensure!(is, "{path} {body}: expected {status} with {contains}, got {answer:?}");
        Ok(answer)
    }
}

/// Runs every scenario once and returns the response counts.
pub(crate) async fn run(stack: &Stack) -> anyhow::Result<Done> {
    let edges = stack.edges().await?;
    stack.ready(&edges).await?;
    let mut people =
        People { edges: edges.try_into().ok().context("not two edges")?, done: Done::new() };
    log_in_and_out(&mut people).await?;
    repeat(&mut people).await?;
    register_concurrently(&mut people).await?;
    send_nonsense(&mut people).await?;
    look_back(&mut people, stack).await?;
    Ok(people.done)
}

async fn log_in_and_out(people: &mut People) -> anyhow::Result<()> {
    let ada = json!({ "username": "ada", "password": PASSWORD });
    let made = people.is("/auth/createAccount", ada.clone(), 200, "user").await?;
    people.is("/auth/createAccount", ada.clone(), 409, "'ada' already exists").await?;
    let login = people.is("/auth/login", ada.clone(), 200, "Login successful").await?;
    ensure!(login.text("user")? == made.text("user")?, "another user: {login:?}");
    let session = json!({ "session": login.text("session")? });
    people.is("/auth/whoami", session.clone(), 200, "ada").await?;
    let wrong = "Invalid username or password.";
    let body = json!({ "username": "ada", "password": "wrong horse battery" });
    people.is("/auth/login", body, 401, wrong).await?;
    let body = json!({ "username": "nobody", "password": PASSWORD });
    people.is("/auth/login", body, 401, wrong).await?;
    people.is("/auth/logout", session.clone(), 200, "Logged out").await?;
    people.is("/auth/logout", session.clone(), 404, "error").await?;
    people.is("/auth/whoami", session, 401, "error").await?;
    Ok(())
}

/// A request repeated at another edge is the same request.
async fn repeat(people: &mut People) -> anyhow::Result<()> {
    let ada = json!({ "username": "ada", "password": PASSWORD });
    let key = [("idempotency-key", "once")];
    let first = people.ask_with("/auth/login", &ada, &key).await?;
    let again = people.ask_with("/auth/login", &ada, &key).await?;
    ensure!(first.status == 200 && first.brief() == again.brief(), "{first:?} {again:?}");
    ensure!(first.headers.get("concert-flow") == again.headers.get("concert-flow"), "two flows");
    Ok(())
}

async fn register_concurrently(people: &mut People) -> anyhow::Result<()> {
    let body = json!({ "username": "eve", "password": PASSWORD });
    let path = "/auth/createAccount";
    let ask = |number: usize| {
        let [one, two] = people.edges;
        let edge = if number.is_multiple_of(2) { one } else { two };
        let body = body.clone();
        tokio::spawn(async move { http::post(edge, &format!("/api{path}"), &body).await })
    };
    let rivals: Vec<_> = (0..RIVALS).map(ask).collect();
    let mut made = 0;
    for rival in rivals {
        let answer = rival.await??;
        ensure!([200, 409].contains(&answer.status), "{answer:?}");
        made += usize::from(answer.status == 200);
        people.counted(path, &answer);
    }
    ensure!(made == 1, "{made} accounts with one name");
    Ok(())
}

async fn send_nonsense(people: &mut People) -> anyhow::Result<()> {
    let anything = json!({ "$ne": null });
    let login = json!({ "username": anything, "password": PASSWORD });
    people.is("/auth/login", login, 400, "username").await?;
    people.is("/auth/logout", json!({ "session": anything }), 400, "session").await?;
    people.is("/auth/login", json!([]), 400, "error").await?;
    people.is("/auth/login", json!({ "username": "ada" }), 400, "password").await?;
    Ok(())
}

/// An operator can inspect a flow from a separate container.
async fn look_back(people: &mut People, stack: &Stack) -> anyhow::Result<()> {
    let body = json!({ "username": "ada", "password": "another horse battery" });
    let failed = people.ask("/auth/login", &body).await?;
    let flow = failed.headers.get("concert-flow").context("no flow")?.to_str()?;
    let tree = stack.concert(&["flow", flow]).await?;
    for part in [
        "Requesting.request",
        "HandleLoginRequest",
        "Profile.authenticate",
        "RespondToFailedAuthentication",
        "401",
    ] {
        ensure!(tree.contains(part), "no {part} in\n{tree}");
    }
    Ok(())
}
