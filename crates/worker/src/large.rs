//! Large values of a worker (ADR 38): its handlers get and return whole strings, and messages
//! contain references.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use concert_runtime::background;
use concert_runtime::blobs::{Blobs, BlobsError};
use concert_runtime::clock;
use concert_wire::envelope::Object;
use concert_wire::large::{self, INLINE_MAX_BYTES, Place, Reference, ValueDigest};
use concert_wire::name::ConceptName;
use concert_wire::seal::{Sealer, is_seal};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::call::{Stop, retry};

/// Unit of the budget, in bytes.
const BUDGET_UNIT_BYTES: u64 = 1024;

/// Resolves the large values of inputs, and stores those of outputs and rows. Clones share the
/// budget.
#[derive(Debug, Clone)]
pub(crate) struct LargeValues {
    blobs: Blobs,
    sealer: Sealer,
    concept: ConceptName,
    budget: Arc<Semaphore>,
    budget_bytes: u64,
    /// Time in which equal values are stored once.
    epoch: Duration,
}

/// An input whose large values are read. Its part of the budget is free when this is dropped.
pub(crate) struct Resolved {
    pub(crate) input: Object,
    /// `None` if the input contains no large value.
    pub(crate) budget: Option<OwnedSemaphorePermit>,
}

/// Reason why an input cannot be resolved, or an output cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LargeError {
    /// A value of the input is no longer stored.
    #[error("a large value of the input has expired")]
    Expired,
    /// The values of the input exceed the budget of the process.
    #[error(
        "the large values of the input have {bytes} bytes; the maximum is {budget} \
         (workers.large_value_budget_bytes)"
    )]
    OverBudget {
        /// Size of the values.
        bytes: u64,
        /// Size of the budget.
        budget: u64,
    },
    /// A string of the output is too large, or a value of the input was altered.
    #[error("{0}")]
    Broken(BlobsError),
    /// The bus is unavailable, or its storage is full. A retry may help.
    #[error("{0}")]
    Unavailable(BlobsError),
}

impl From<BlobsError> for LargeError {
    fn from(error: BlobsError) -> Self {
        match error {
            BlobsError::Expired => Self::Expired,
            BlobsError::Full | BlobsError::Unavailable(_) => Self::Unavailable(error),
            BlobsError::Broken(_) | BlobsError::NotText | BlobsError::TooLarge => {
                Self::Broken(error)
            }
        }
    }
}

impl LargeValues {
    /// `epoch` is the age of the log: a value stays readable for twice that time, so one that was
    /// stored in the same epoch outlives every flow that gets its reference.
    pub(crate) fn new(
        blobs: Blobs,
        sealer: Sealer,
        concept: ConceptName,
        budget_bytes: u64,
        epoch: Duration,
    ) -> Self {
        let units = usize::try_from(budget_bytes / BUDGET_UNIT_BYTES).unwrap_or(usize::MAX);
        let budget = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Self { blobs, sealer, concept, budget, budget_bytes, epoch }
    }

    /// Replaces the references of an input by their values. Waits while the values of other inputs
    /// use up the budget.
    ///
    /// # Errors
    /// See [`LargeError`].
    pub(crate) async fn resolve(&self, mut input: Object) -> Result<Resolved, LargeError> {
        let texts = large::texts_mut(&mut input).into_iter();
        let found: Vec<(Reference, &mut String)> =
            texts.filter_map(|text| Some((text.parse().ok()?, text))).collect();
        let bytes = found.iter().map(|(reference, _)| reference.bytes()).sum::<u64>();
        if found.is_empty() {
            return Ok(Resolved { input, budget: None });
        }
        let budget = Some(self.reserve(bytes).await?);
        for (reference, text) in found {
            *text = self.blobs.load(&reference).await?;
        }
        Ok(Resolved { input, budget })
    }

    /// Waits for a part of the budget.
    async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, LargeError> {
        let over_budget = LargeError::OverBudget { bytes, budget: self.budget_bytes };
        if bytes > self.budget_bytes {
            return Err(over_budget);
        }
        let units = u32::try_from(bytes / BUDGET_UNIT_BYTES).map_err(|_| over_budget.clone())?;
        // The semaphore is never closed.
        self.budget.clone().acquire_many_owned(units).await.map_err(|_| over_budget)
    }

    /// Stores the large strings of an output or a row, and replaces them by references. Encrypted
    /// secrets stay in it.
    ///
    /// # Errors
    /// See [`LargeError`].
    pub(crate) async fn store(&self, output: &mut Object) -> Result<(), LargeError> {
        let is_large = |text: &&mut String| text.len() as u64 > INLINE_MAX_BYTES && !is_seal(text);
        for text in large::texts_mut(output).into_iter().filter(is_large) {
            *text = self.stored(std::mem::take(text)).await?.to_string();
        }
        Ok(())
    }

    async fn stored(&self, mut text: String) -> Result<Reference, LargeError> {
        let digest = digest_of(&mut text).await?;
        let place = self.place(digest);
        let reference = Reference::new(place, text.len() as u64, digest);
        if self.blobs.is_stored(&reference).await? {
            return Ok(reference);
        }
        Ok(self.blobs.store(place, text).await?)
    }

    /// The place of a value is derived from it, so an equal value is stored once in an epoch, such
    /// as that of a redelivered action or of the same row.
    fn place(&self, digest: ValueDigest) -> Place {
        let epoch_ms = u64::try_from(self.epoch.as_millis()).unwrap_or(u64::MAX).max(1);
        let epoch = (clock::now_ms() / epoch_ms).to_be_bytes();
        let concept = self.concept.as_str().as_bytes();
        self.sealer.large_place(&[b"worker", concept, &epoch, digest.bytes()])
    }
}

/// Length and digest of a large text. A worker that keeps them can return the text without reading
/// it; see [`Query::large`](crate::Query::large).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    bytes: u64,
    digest: ValueDigest,
}

impl Fingerprint {
    /// The fingerprint of a text, which stays unchanged; `None` if it has at most 32 KiB, so that
    /// messages contain it. Takes the text, because a thread of low priority computes the hashes.
    ///
    /// # Errors
    /// The process shuts down.
    pub async fn of(text: &mut String) -> Result<Option<Self>, Stop> {
        let bytes = text.len() as u64;
        if bytes <= INLINE_MAX_BYTES {
            return Ok(None);
        }
        Ok(Some(Self { bytes, digest: digest_of(text).await.map_err(retry)? }))
    }
}

/// The digest of a text, which stays unchanged.
async fn digest_of(text: &mut String) -> Result<ValueDigest, BlobsError> {
    let own = std::mem::take(text);
    let hashed = background::run(move || (ValueDigest::of(&own), own)).await;
    let (digest, own) = hashed.map_err(|error| BlobsError::Unavailable(error.to_string()))?;
    *text = own;
    Ok(digest)
}

/// A text of a row that [`Query::large`](crate::Query::large) returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Large(String);

/// The large values that a query's handler returns.
#[derive(Debug, Clone, Default)]
pub(crate) struct LargeRows {
    /// `None` for a manual request, whose rows contain whole texts.
    values: Option<LargeValues>,
    /// The references that the handler got.
    given: Arc<Mutex<HashSet<Reference>>>,
}

impl LargeRows {
    pub(crate) fn new(values: Option<&LargeValues>) -> Self {
        Self { values: values.cloned(), given: Arc::default() }
    }

    /// See [`Query::large`](crate::Query::large).
    pub(crate) async fn get(
        &self,
        fingerprint: Option<&Fingerprint>,
        load: impl Future<Output = Result<Option<String>, Stop>>,
    ) -> Result<Option<Large>, Stop> {
        let Some(values) = &self.values else {
            return Ok(load.await?.map(Large));
        };
        let mut budget = None;
        if let Some(Fingerprint { bytes, digest }) = fingerprint {
            let reference = Reference::new(values.place(*digest), *bytes, *digest);
            if values.blobs.is_stored(&reference).await.map_err(retry)? {
                return Ok(Some(self.give(reference)));
            }
            budget = Some(values.reserve(*bytes).await.map_err(retry)?);
        }
        let Some(text) = load.await? else { return Ok(None) };
        if text.len() as u64 <= INLINE_MAX_BYTES {
            return Ok(Some(Large(text)));
        }
        let reference = values.stored(text).await.map_err(retry)?;
        drop(budget);
        Ok(Some(self.give(reference)))
    }

    fn give(&self, reference: Reference) -> Large {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(reference);
        Large(reference.to_string())
    }

    /// Returns whether a row contains a reference that its handler did not get from here.
    pub(crate) fn holds_forged(&self, row: &Object) -> bool {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        large::is_other_in(row, &|found| given.contains(found))
    }
}
