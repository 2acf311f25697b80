//! The load scenarios.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_runtime::clock;
use concert_runtime::keys::{self, Purpose};
use concert_runtime::log;
use concert_runtime::nats::HeaderMap;
use concert_wire::envelope::Completion;
use concert_wire::seal::Sealer;
use concert_wire::subject::{self, CompletionSubject};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::load::{self, Load, Step, Steps, Until};
use crate::measurement::{Measurement, Soak};
use crate::overload::{self, Overload};
use crate::process::Memory;
use crate::stack::BenchStack;

/// Accounts that log in; so many that none of them reaches its limit of sessions, after which each
/// login also ends an old session.
const ACCOUNTS: u64 = 256;
/// Usernames for logins with a wrong password; enough of them to stay below the limit of failed
/// logins per account.
const TRIED_NAMES: u64 = 4096;
const LOGOUT: &str = "/api/auth/logout";
pub(crate) const PASSWORD: &str = "correct horse battery";
/// Requests before each measured run, to warm up connections, caches and code.
pub(crate) const WARM_UP: u64 = 50;
/// Live sessions; more than a run can end.
const SESSIONS_PER_SECOND: u64 = 5000;
/// Concurrent logins while logouts are measured.
const BUSY_LOGINS: usize = 16;
/// Number of memory samples in a soak test.
const SOAK_SAMPLE: u64 = 100_000;

/// A system with accounts. Sessions are created before each run that needs them.
pub(crate) struct Scenarios;

impl Scenarios {
    /// Creates the accounts.
    pub(crate) async fn prepare(stack: &BenchStack) -> anyhow::Result<Self> {
        let steps: Steps = Arc::new(|number| {
            Some(Step {
                path: "/api/auth/createAccount".into(),
                body: credentials(number, PASSWORD),
                status: 200,
            })
        });
        load::run(stack.addresses(), 4, Until::Flows(ACCOUNTS), steps).await?;
        Ok(Self)
    }

    /// Measures one kind of request.
    pub(crate) async fn run(
        &self,
        stack: &BenchStack,
        kind: Kind,
        in_flight: usize,
        time: Duration,
    ) -> anyhow::Result<Measurement> {
        let warm_up = self.steps(stack, kind, WARM_UP).await?;
        load::run(stack.addresses(), in_flight, Until::Flows(WARM_UP), warm_up).await?;
        let steps = self.steps(stack, kind, SESSIONS_PER_SECOND * time.as_secs()).await?;
        let load = load::run(stack.addresses(), in_flight, Until::Time(time), steps);
        measured(stack, kind.name(), in_flight, load).await
    }

    /// Measures logouts, two at a time, while logins keep the processors busy.
    pub(crate) async fn beside_logins(
        &self,
        stack: &BenchStack,
        time: Duration,
    ) -> anyhow::Result<Measurement> {
        let logins = load::run(
            stack.addresses(),
            BUSY_LOGINS,
            Until::Time(time + Duration::from_secs(1)),
            self.steps(stack, Kind::Login, 0).await?,
        );
        let steps = self.steps(stack, Kind::Logout, SESSIONS_PER_SECOND * time.as_secs()).await?;
        let logouts = load::run(stack.addresses(), 1, Until::Time(time), steps);
        let (logins, logouts) =
            tokio::try_join!(logins, measured(stack, "logout during 16 logins", 1, logouts))?;
        ensure!(logins.flows > 0, "no login got a response");
        Ok(logouts)
    }

    /// Measures accepted and rejected requests under overload.
    pub(crate) async fn overload(
        &self,
        stack: &BenchStack,
        time: Duration,
    ) -> anyhow::Result<Overload> {
        let logins = self.steps(stack, Kind::Overload, 0).await?;
        let logouts = self.steps(stack, Kind::UnknownLogout, 0).await?;
        overload::run(stack.address(), time, logins, logouts).await
    }

    /// Runs logouts of unknown sessions and samples the memory.
    pub(crate) async fn soak(
        &self,
        stack: &BenchStack,
        flows: u64,
        progress: &impl Fn(&str),
    ) -> anyhow::Result<Vec<Soak>> {
        let mut samples = Vec::new();
        let mut done = 0;
        while done < flows {
            let part = SOAK_SAMPLE.min(flows - done);
            let steps = self.steps(stack, Kind::UnknownLogout, part).await?;
            let load = load::run(stack.addresses(), 64, Until::Flows(part), steps).await?;
            done += part;
            let memory: Vec<Memory> = stack.processes();
            progress(&format!("{done} flows, {:.0} flows/s, {}", load.rate(), shown(&memory)));
            samples.push(Soak { flows: done, flows_per_second: load.rate(), memory });
        }
        Ok(samples)
    }

    async fn steps(&self, stack: &BenchStack, kind: Kind, sessions: u64) -> anyhow::Result<Steps> {
        Ok(match kind {
            Kind::Login | Kind::Overload | Kind::Timing | Kind::Observability | Kind::Large => {
                logins()
            }
            Kind::FailedLogin => Arc::new(|number| {
                let username = format!("bench{}", number % TRIED_NAMES);
                let body = json!({ "username": username, "password": "wrong horse battery" });
                Some(Step { path: "/api/auth/login".into(), body: body.to_string(), status: 401 })
            }),
            Kind::UnknownLogout => unknown_logouts(LOGOUT),
            Kind::Logout => {
                let live = Mutex::new(live_sessions(stack, sessions).await?);
                Arc::new(move |_| {
                    let session =
                        live.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
                    session.map(|session| logout(LOGOUT, &session, 200))
                })
            }
        })
    }
}

/// Logins of the accounts in turn.
pub(crate) fn logins() -> Steps {
    Arc::new(|number| {
        Some(Step {
            path: "/api/auth/login".into(),
            body: credentials(number, PASSWORD),
            status: 200,
        })
    })
}

/// Logouts of unknown sessions.
pub(crate) fn unknown_logouts(path: &str) -> Steps {
    let path = path.to_owned();
    Arc::new(move |number| Some(logout(&path, &format!("{number:043}"), 404)))
}

/// Runs a load, and measures what the stack uses for it.
async fn measured(
    stack: &BenchStack,
    name: &'static str,
    in_flight: usize,
    load: impl Future<Output = anyhow::Result<Load>>,
) -> anyhow::Result<Measurement> {
    // Its requests are not part of the load.
    let redelivered = stack.redeliveries().await?;
    let before = stack.usage();
    let load = load.await?;
    let after = stack.usage();
    let processes = after.iter().zip(&before).map(|(now, then)| now.per_flow(then, load.flows));
    Ok(Measurement {
        processes: processes.collect(),
        redeliveries: stack.redeliveries().await?.saturating_sub(redelivered),
        ..Measurement::new(name, in_flight, &load.latency_us, load.took)
    })
}

fn shown(memory: &[Memory]) -> String {
    memory
        .iter()
        .map(|memory| format!("{} {:.0} MB", memory.name, memory.resident_mb))
        .collect::<Vec<_>>()
        .join(", ")
}

fn credentials(number: u64, password: &str) -> String {
    json!({ "username": format!("bench{}", number % ACCOUNTS), "password": password }).to_string()
}

fn logout(path: &str, session: &str, status: u16) -> Step {
    let body = json!({ "session": session }).to_string();
    Step { path: path.to_owned().into(), body, status }
}

/// Creates sessions by injected actions, because logging in would take minutes. The tokens are in
/// the completions, as seals.
async fn live_sessions(stack: &BenchStack, count: u64) -> anyhow::Result<Vec<String>> {
    let bus = stack.bus();
    let sealer = Sealer::new(keys::load(stack.keys_dir(), &Purpose::Seal)?);
    let mut done = bus.client.subscribe("done.*.Sessioning.create.*").await?;
    bus.client.flush().await?;
    let publisher = bus.clone();
    let publish = tokio::spawn(async move {
        let mut stored = futures_util::stream::iter((0..count).map(|_| clock::new_flow().root()))
            .map(|action| {
                let subject = subject::invocation("Sessioning", "create", action);
                // A user each, because the number of sessions per user is limited.
                let user = format!("bench{action}");
                let body = json!({ "user": user }).to_string().into();
                let publisher = publisher.clone();
                async move { log::publish_once(&publisher, subject, HeaderMap::new(), body).await }
            })
            .buffer_unordered(256);
        while let Some(published) = stored.next().await {
            published?;
        }
        anyhow::Ok(())
    });
    let mut sessions = Vec::new();
    for _ in 0..count {
        let message = tokio::time::timeout(Duration::from_secs(30), done.next())
            .await
            .context("cannot create the sessions")?
            .context("the connection is closed")?;
        let flow = CompletionSubject::parse(&message.subject)?.flow;
        let completion = Completion::decode(&message.payload)?;
        let sealed = completion.output.get("session").and_then(Value::as_str);
        let token = sealer.open(flow, sealed.context("no session")?)?;
        sessions.push(token.expose().to_owned());
    }
    publish.await??;
    Ok(sessions)
}
