//! Input of a handler, and its ways to stop without a success.

use std::time::Duration;

use concert_wire::client::ClientTag;
use concert_wire::id::{ActionId, FlowId, uuid_v5};
use concert_wire::position::Position;
use concert_wire::secret::Secret;
use serde::Serializer;

use crate::boxed::Boxed;
use crate::large::{Fingerprint, Large, LargeRows};
use crate::lease::{Lease, MayNotWrite};
use crate::permit::WritePermit;

/// An action to execute. Its secrets are in clear.
#[derive(Debug)]
pub struct Call<I> {
    /// Id of the action, the same at every delivery; writes are stamped with it.
    pub id: ActionId,
    /// The flow.
    pub flow: FlowId,
    /// The client of the request that started the flow; an injected action has none.
    pub client: Option<ClientTag>,
    /// The device of that client, such as `Firefox on Linux`.
    pub device: Option<String>,
    /// The log positions that the action follows from; an injected action has none.
    pub position: Option<Position>,
    /// The input, checked against the spec.
    pub input: I,
    pub(crate) lease: Lease,
}

impl<I> Call<I> {
    /// A permit for one write. The first permit of a delivery reads the log, because a completed
    /// action must not write again.
    ///
    /// # Errors
    /// This delivery must not write. Return the error; the host handles it.
    pub async fn permit(&self) -> Result<WritePermit<'_>, Stop> {
        self.writer().permit().await
    }

    /// A call without a log; all of its permits are granted.
    pub(crate) fn without_log(flow: FlowId, client: Option<ClientTag>, input: I) -> Self {
        let lease = Lease::without_log();
        Self { id: flow.root(), flow, client, device: None, position: None, input, lease }
    }

    pub(crate) const fn writer(&self) -> Writer<'_> {
        Writer { action: &self.id, lease: &self.lease }
    }

    /// Returns whether the action is the root of its flow.
    pub fn is_root(&self) -> bool {
        self.id == self.flow.root()
    }

    /// Returns whether an earlier delivery of the action may have written: this one is a redelivery,
    /// or the retry of a dead letter.
    pub fn is_repeated(&self) -> bool {
        self.lease.is_repeated()
    }

    /// Reads the position of the log's last message.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn log_end(&self) -> Result<u64, Stop> {
        self.writer().log_end().await
    }

    /// An id for a document that this action creates: the same at every delivery, and different for
    /// each kind.
    pub fn new_id(&self, kind: &str) -> String {
        derived_id(self.id, kind)
    }

    /// Takes the input out, so that it can be consumed while permits are still needed.
    pub fn split(self) -> (I, Call<()>) {
        let Self { id, flow, client, device, position, input, lease } = self;
        (input, Call { id, flow, client, device, position, input: (), lease })
    }

    /// Replaces the input of the call.
    pub(crate) fn with<J>(self, input: J) -> Call<J> {
        let (_, Call { id, flow, client, device, position, lease, .. }) = self.split();
        Call { id, flow, client, device, position, input, lease }
    }
}

/// The lease of a call, without the type of its input.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) action: &'a ActionId,
    lease: &'a Lease,
}

impl<'a> Writer<'a> {
    /// See [`Call::permit`].
    pub(crate) fn permit(self) -> Boxed<'a, Result<WritePermit<'a>, Stop>> {
        Box::pin(async move {
            self.lease.may_write().await?;
            Ok(WritePermit::new(self.action))
        })
    }

    /// See [`Call::log_end`].
    fn log_end(self) -> Boxed<'a, Result<u64, Stop>> {
        Box::pin(async move { self.lease.log_end().await.map_err(retry) })
    }
}

/// A UUID derived from an action and a kind.
pub(crate) fn derived_id(action: ActionId, kind: &str) -> String {
    uuid_v5(&action.uuid(), kind.as_bytes()).to_string()
}

/// A query to answer. Its secrets are in clear.
#[derive(Debug)]
pub struct Query<I> {
    /// The input, checked against the spec.
    pub input: I,
    pub(crate) large: LargeRows,
}

impl<I> Query<I> {
    /// A text for a row. If a text with this fingerprint is on the bus already, it is not loaded.
    /// The text is not kept in memory, so a row can contain many. `None` if `load` returns it.
    ///
    /// # Errors
    /// The errors of `load`; or the bus is unavailable.
    pub async fn large(
        &self,
        fingerprint: Option<&Fingerprint>,
        load: impl Future<Output = Result<Option<String>, Stop>>,
    ) -> Result<Option<Large>, Stop> {
        self.large.get(fingerprint, load).await
    }
}

/// Reason why a handler stops without a success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The spec's failure outcome: the same input would be refused again.
    #[error("{0}")]
    Refused(String),
    /// Not attempted, because too many similar attempts failed recently. The router responds with
    /// 429 unless a rule does.
    #[error("{error}")]
    Throttled {
        /// The reason.
        error: String,
        /// Time until another attempt is possible, if it is known.
        wait: Option<Duration>,
    },
    /// A temporary failure: the host retries, and dead-letters the action when its attempts are
    /// used up.
    #[error("{0}")]
    Retry(String),
    /// This delivery must not write; see [`Call::permit`].
    #[error(transparent)]
    NoPermit(NoPermit),
}

/// The reason of [`Stop::NoPermit`]. Only the host acts on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct NoPermit(pub(crate) MayNotWrite);

impl From<MayNotWrite> for Stop {
    fn from(why: MayNotWrite) -> Self {
        Self::NoPermit(NoPermit(why))
    }
}

/// The failure outcome that the spec declares as `: (error: String)`.
pub fn refused(error: impl Into<String>) -> Stop {
    Stop::Refused(error.into())
}

/// Not attempted; see [`Stop::Throttled`]. `wait` is the time until another attempt is possible.
pub fn throttled(error: impl Into<String>, wait: impl Into<Option<Duration>>) -> Stop {
    Stop::Throttled { error: error.into(), wait: wait.into() }
}

/// A temporary failure; see [`Stop::Retry`].
pub fn retry(why: impl std::fmt::Display) -> Stop {
    Stop::Retry(why.to_string())
}

/// Writes a secret of an output in clear, for `#[serde(serialize_with = "reveal")]`. The host
/// encrypts what the spec calls a secret before it publishes anything.
///
/// # Errors
/// The errors of the serializer.
pub fn reveal<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}
