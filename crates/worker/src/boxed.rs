//! Futures that are compiled in this crate.
//!
//! The compiler generates the code of an async function in each crate that awaits it, with all that
//! it awaits in turn, such as the clients of MongoDB and NATS. A boxed future is compiled once,
//! where it is boxed. So functions that workers await are boxed if they use a client (ADR 29).

use std::pin::Pin;

/// A future that is compiled where it is boxed.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
