//! The right to write once.

use std::marker::PhantomData;

use concert_wire::id::ActionId;

/// The right of a delivery to write once. A handler gets it from
/// [`Call::permit`](crate::Call::permit) only, and a write consumes it.
///
/// A handler that forgets the check does not compile:
///
/// ```compile_fail
/// # use concert_worker::store::Documents;
/// # use concert_worker::{Call, Stop};
/// async fn delete(labels: &Documents<String>, call: Call<String>) -> Result<(), Stop> {
///     labels.delete(&call.input).await?;
///     Ok(())
/// }
/// ```
///
/// Neither does one that writes twice with one permit:
///
/// ```compile_fail,E0382
/// # use concert_worker::store::Documents;
/// # use concert_worker::{Call, Stop};
/// async fn delete(labels: &Documents<String>, call: Call<String>) -> Result<(), Stop> {
///     let permit = call.permit().await?;
///     labels.delete(permit, &call.input).await?;
///     labels.delete(permit, &call.input).await?;
///     Ok(())
/// }
/// ```
///
/// With one permit for each write it does:
///
/// ```
/// # use concert_worker::store::Documents;
/// # use concert_worker::{Call, Stop};
/// async fn delete(labels: &Documents<String>, call: Call<String>) -> Result<(), Stop> {
///     labels.delete(call.permit().await?, &call.input).await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "request a permit only directly before a write"]
pub struct WritePermit<'a> {
    action: ActionId,
    /// The permit does not outlive its call.
    of: PhantomData<&'a ActionId>,
}

impl<'a> WritePermit<'a> {
    pub(crate) fn new(action: &'a ActionId) -> Self {
        Self { action: *action, of: PhantomData }
    }

    /// The action's id, which the write is stamped with.
    pub fn action(&self) -> ActionId {
        self.action
    }
}
