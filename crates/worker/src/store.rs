//! A concept's state in MongoDB: documents whose writes happen once, no matter how often their
//! action is delivered.
//!
//! Every write is one atomic operation on one document, majority and journaled, stamped with the
//! action's id. A later action never overwrites a stamp,
//! and a stamp outlives the log, so that a redelivery finds what the first delivery did
//! (`docs/delivery.md`).

mod change;
mod documents;
mod form;
mod id;
mod lists;
mod lookups;
mod open;
mod operation;
mod page;
mod stamp;

pub(crate) use concert_runtime::mongodb::connect;
pub use concert_runtime::mongodb::{StoreArgs, StoreError, now};
pub use mongodb::bson::{Bson, DateTime, Document, doc};

pub use self::change::Change;
pub use self::documents::{Changed, Deleted, Documents, Inserted, Target};
pub use self::form::Found;
pub use self::id::{Id, Key};
pub use self::lists::MOST;
pub use self::open::OpenDocuments;
pub use self::page::Page;
pub(crate) use self::stamp::Retention;
pub use self::stamp::stamp;

#[cfg(test)]
mod tests;
