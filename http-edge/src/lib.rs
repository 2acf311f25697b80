//! The HTTP edge: it turns HTTP requests into `Requesting.request`, and `Requesting.respond` into
//! responses. It also serves the console and static files.
//!
//! An HTTP request is the completed action `Requesting.request`, and an HTTP response is the action
//! `Requesting.respond`. Of the application, the edge knows only the route table.

mod admission;
mod answer;
mod api;
mod bodies;
mod body;
mod body_slots;
mod client;
mod connections;
mod cookie;
mod descriptions;
mod device;
mod error;
mod files;
mod idempotency;
mod keys;
mod metrics;
mod origin;
mod pace;
mod page;
mod passthrough;
mod pending;
mod protocol;
mod quotas;
mod rates;
mod repeats;
mod requesting;
mod routes;
mod scan;
mod server;
mod splice;
mod uploads;

pub use files::{BadFiles, FileArgs};
pub use page::{BadPage, PageArgs, WorkerProblems};
pub use passthrough::{PassthroughArgs, Reason, Target};
pub use server::{EdgeArgs, Listeners, Running, StartError, listen, run};
