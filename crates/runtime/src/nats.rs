//! The parts of the NATS client that processes touch themselves; everything else of it stays behind this crate.

pub use async_nats::HeaderMap;
pub use async_nats::jetstream::Message;
pub use async_nats::jetstream::kv;
pub use async_nats::service;
pub use async_nats::{Error, Message as CoreMessage};
