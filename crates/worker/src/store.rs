//! A concept's state in MongoDB. Writes to its documents take effect once, even if their action is
//! redelivered.
//!
//! Every write is atomic for each document, with majority write concern and journaling. It stamps
//! the document with the action's id, unless a repetition of the write changes nothing. A later
//! action never overwrites a stamp. A stamp outlives the log, so a redelivery finds the result of
//! the first delivery (`docs/delivery.md`).

mod change;
mod documents;
mod form;
mod id;
mod import;
mod lists;
mod lookups;
mod open;
mod operation;
mod page;
mod shared;
mod stamp;
mod stamped;
mod writes;

#[cfg(feature = "test-support")]
pub(crate) use concert_runtime::mongodb::connect;
pub use concert_runtime::mongodb::{StoreArgs, StoreError, now};
pub use mongodb::bson::{Bson, DateTime, Document, doc};

pub use self::change::Change;
pub use self::documents::{Changed, Deleted, Documents, Inserted, Target};
pub use self::form::Found;
pub use self::id::{Id, Key};
pub use self::import::{
    Import, ImportCounts, ImportOptions, ImportReport, OldData, OldDataError, OldDocuments,
};
pub use self::open::OpenDocuments;
pub use self::page::Page;
pub(crate) use self::stamp::Retention;
pub use self::stamp::stamp;

#[cfg(test)]
mod tests;
