//! The whole system for tests: real servers, each part a process of its own, spoken to over HTTP and NATS as anyone would. No code of Concert is on the asking side.

pub mod binaries;
pub mod certificates;
pub mod http;
pub mod lone_edge;
pub mod moody;
pub mod raw_nats;
pub mod system;

pub use http::Answer;
pub use lone_edge::LoneEdge;
pub use raw_nats::RawNats;
pub use system::{PARTS, Part, System};
