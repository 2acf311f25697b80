//! Finds, fetches, starts and stops `nats-server` and `mongod`, for `concert up` and for the tests.
//!
//! Servers stop when the process that started them exits for any reason. They are stopped by
//! process ID, never by name, so servers of other programs are safe.

mod binaries;
mod certificate;
mod data_dir;
mod data_version;
mod error;
mod guardian;
mod lock;
mod log_file;
mod mongo;
mod nats;
mod packages;
mod port;
mod program;
mod startup;
mod test_servers;

pub use ::mongodb::options::Credential;
pub use binaries::{Binaries, FindError, FindOptions, find_or_fetch};
pub use certificate::Certificate;
pub use error::StartError;
pub use guardian::Exited;
pub use lock::DirLock;
pub use mongo::{MongoOptions, MongoServer, initiate_replica_set, server_credential};
pub use nats::{NatsOptions, NatsServer, include};
pub use packages::{FetchError, Progress};
pub use port::Port;
pub use program::Program;
pub use test_servers::{TestServers, TestServersError};
