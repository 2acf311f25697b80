//! A proxy between one worker and the NATS server. It records the steps of the worker's deliveries,
//! and can hold or discard the message of a step.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use concert_wire::id::ActionId;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::frame::{self, Content, Frame};
use super::journal::{Event, Journal, Step};

/// Timeout of one step.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// A proxy on a free port of loopback.
pub(super) struct Tap {
    url: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Changes with each recorded message.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    journal: Journal,
    events: Vec<Event>,
    errors: Vec<String>,
    /// Number of requests for messages.
    fetches: usize,
    rules: Vec<Rule>,
    /// To the server, on the worker's last connection.
    to_server: Option<Writer>,
}

/// What happens to the message of a step.
struct Rule {
    step: Step,
    action: ActionId,
    does: Does,
}

enum Does {
    Discard,
    /// Holds the first message until the receiver gets a value, and forwards further ones.
    Hold {
        reached: watch::Sender<bool>,
        release: Option<oneshot::Receiver<()>>,
    },
}

enum Verdict {
    Forward,
    Discard,
    Hold(oneshot::Receiver<()>),
}

/// A step whose message is held. Dropping this discards the message.
pub(super) struct Held {
    step: Step,
    reached: watch::Receiver<bool>,
    release: oneshot::Sender<()>,
}

impl Held {
    /// Returns when the worker or the server has sent the message.
    ///
    /// # Errors
    /// It is not sent in time.
    pub(super) async fn reached(&mut self) -> anyhow::Result<()> {
        let step = self.step;
        let reached = tokio::time::timeout(TIMEOUT, self.reached.wait_for(|reached| *reached));
        reached.await.with_context(|| format!("the step {step:?} did not happen"))??;
        Ok(())
    }

    /// Forwards the message.
    pub(super) fn release(self) {
        if self.release.send(()).is_err() {
            tracing::debug!("the message was not sent, or its connection has ended");
        }
    }
}

impl State {
    /// All messages of a step so far, with those that are held or discarded.
    fn of(&self, step: Step, action: ActionId) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.step == step && event.action == action)
    }
}

impl Tap {
    /// Listens for a worker, whose connections are forwarded to the server at this URL.
    ///
    /// # Errors
    /// No port is free.
    pub(super) async fn start(server_url: &str) -> anyhow::Result<Self> {
        let server = server_url.strip_prefix("nats://").context("not a NATS URL")?;
        let server: SocketAddr = server.parse().context("not an address")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("nats://{}", listener.local_addr()?);
        let shared = Arc::new(Shared::default());
        let listening = tokio::spawn(listen(listener, server, shared.clone()));
        Ok(Self { url, shared, listening })
    }

    /// URL for the worker.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Holds the next message of a step.
    pub(super) fn hold(&self, step: Step, action: ActionId) -> Held {
        let ((reached, reaching), (release, released)) =
            (watch::channel(false), oneshot::channel());
        let does = Does::Hold { reached, release: Some(released) };
        self.shared.state().rules.push(Rule { step, action, does });
        Held { step, reached: reaching, release }
    }

    /// Discards all messages of a step from now on.
    pub(super) fn discard(&self, step: Step, action: ActionId) {
        self.shared.state().rules.push(Rule { step, action, does: Does::Discard });
    }

    /// Number of messages of a step so far.
    pub(super) fn count(&self, step: Step, action: ActionId) -> usize {
        self.shared.state().of(step, action).count()
    }

    /// Waits for the message of a step with this number, counted from 1.
    ///
    /// # Errors
    /// It is not sent in time.
    pub(super) async fn nth(
        &self,
        number: usize,
        step: Step,
        action: ActionId,
    ) -> anyhow::Result<Event> {
        let at = number.saturating_sub(1);
        let found = || self.shared.state().of(step, action).nth(at).cloned();
        let found = self.until(found).await;
        let why = || format!("the step {step:?} did not happen {number} times in {TIMEOUT:?}");
        found.with_context(why)
    }

    /// Number of the worker's requests for messages.
    pub(super) fn fetches(&self) -> usize {
        self.shared.state().fetches
    }

    /// Waits for a further request for messages.
    ///
    /// # Errors
    /// The worker sends none in time.
    pub(super) async fn fetches_after(&self, before: usize) -> anyhow::Result<()> {
        let found = || (self.fetches() > before).then_some(());
        self.until(found).await.context("the worker fetches no messages")
    }

    /// Sends bytes to the server on a connection of the worker, between two of its messages.
    ///
    /// # Errors
    /// The worker has no connection.
    pub(super) async fn send(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let to_server = self.shared.state().to_server.clone();
        let to_server = to_server.context("the worker has no connection")?;
        to_server.lock().await.write_all(bytes).await?;
        Ok(())
    }

    /// Errors that the server sent to the worker.
    pub(super) fn errors(&self) -> Vec<String> {
        self.shared.state().errors.clone()
    }

    async fn until<T>(&self, found: impl Fn() -> Option<T>) -> anyhow::Result<T> {
        let mut changed = self.shared.changed.subscribe();
        let search = async {
            loop {
                if let Some(found) = found() {
                    return Ok(found);
                }
                changed.changed().await?;
            }
        };
        tokio::time::timeout(TIMEOUT, search).await?
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a frame, and decides what happens to it.
    fn verdict(&self, frame: &Frame) -> Verdict {
        let verdict = self.state().verdict(frame);
        self.changed.send_replace(());
        verdict
    }
}

impl State {
    fn verdict(&mut self, frame: &Frame) -> Verdict {
        let message = match &frame.content {
            Content::Message(message) => message,
            Content::Error(error) => {
                self.errors.push(error.clone());
                return Verdict::Forward;
            }
            Content::Other => return Verdict::Forward,
        };
        self.fetches += usize::from(message.is_sent && message.subject.contains(".MSG.NEXT."));
        let Some(event) = self.journal.step(message) else { return Verdict::Forward };
        let (step, action) = (event.step, event.action);
        self.events.push(event);
        for rule in &mut self.rules {
            if rule.step != step || rule.action != action {
                continue;
            }
            match &mut rule.does {
                Does::Discard => return Verdict::Discard,
                Does::Hold { reached, release } => {
                    if let Some(release) = release.take() {
                        reached.send_replace(true);
                        return Verdict::Hold(release);
                    }
                }
            }
        }
        Verdict::Forward
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    while let Ok((worker, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            if let Err(error) = connect(worker, server, &shared).await {
                tracing::debug!(%error, "a connection of the worker has ended");
            }
        });
    }
}

type Writer = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

async fn connect(worker: TcpStream, server: SocketAddr, shared: &Shared) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    worker.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_worker, to_worker) = worker.into_split();
    let (from_server, to_server) = server.into_split();
    let (to_worker, to_server) = (Writer::new(to_worker.into()), Writer::new(to_server.into()));
    shared.state().to_server = Some(to_server.clone());
    let ended = tokio::select! {
        ended = forward(from_worker, &to_server, shared) => ended,
        ended = forward(from_server, &to_worker, shared) => ended,
    };
    // Held messages share the writers.
    to_worker.lock().await.shutdown().await?;
    to_server.lock().await.shutdown().await?;
    ended
}

async fn forward(from: OwnedReadHalf, to: &Writer, shared: &Shared) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    while let Some(frame) = frame::read(&mut from).await? {
        match shared.verdict(&frame) {
            Verdict::Forward => to.lock().await.write_all(&frame.bytes).await?,
            Verdict::Discard => {}
            Verdict::Hold(released) => {
                let to = to.clone();
                tokio::spawn(async move {
                    if released.await.is_ok()
                        && let Err(error) = to.lock().await.write_all(&frame.bytes).await
                    {
                        tracing::debug!(%error, "a held message has no connection");
                    }
                });
            }
        }
    }
    Ok(())
}
