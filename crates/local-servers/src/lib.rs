//! Finds, fetches, starts and stops `nats-server` and `mongod`, for `concert up` and for the tests.
//!
//! What is started here ends with the process that started it, however that ends, and is stopped by
//! its process id.

mod binaries;
mod certificate;
mod data_dir;
mod error;
mod guardian;
mod mongo;
mod nats;
mod packages;
mod port;
mod throwaway;

pub use binaries::{Binaries, FindError, FindOptions, Program, find_or_fetch};
pub use certificate::Certificate;
pub use error::StartError;
pub use guardian::Exited;
pub use mongo::{MongoOptions, MongoServer, initiate_replica_set};
pub use nats::{NatsOptions, NatsServer, include};
pub use packages::{FetchError, Progress};
pub use port::Port;
pub use throwaway::{Throwaway, ThrowawayError};
