//! The whole system for tests: real servers, each part a process of its own, spoken to over HTTP
//! and NATS as anyone would. No code of Concert is on the asking side.

pub mod binaries;
pub mod certificates;
pub mod http;
pub mod load;
pub mod lone_edge;
pub mod moody;
pub mod nats;
pub mod raw_nats;
pub mod shell;
pub mod system;
pub mod until;

pub use http::Answer;
pub use load::Load;
pub use lone_edge::LoneEdge;
pub use raw_nats::RawNats;
pub use system::{PARTS, Part, System, refusal};
pub use until::until;
