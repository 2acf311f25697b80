//! The whole system for tests: real servers, and each part as a separate process. Tests use it over
//! HTTP and NATS without any client code of Concert.

pub mod binaries;
pub mod certificates;
pub mod edge_with_stub_archive;
pub mod faulty;
pub mod files;
pub mod http;
pub mod load;
pub mod nats;
pub mod raw_nats;
pub mod running;
pub mod shell;
pub mod system;
pub mod until;
pub mod weathering;

pub use edge_with_stub_archive::EdgeWithStubArchive;
pub use http::Answer;
pub use load::Load;
pub use raw_nats::RawNats;
pub use system::{PARTS, Part, System, server_key, service_error};
pub use until::until;
