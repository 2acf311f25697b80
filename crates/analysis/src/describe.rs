//! The application as tools read it: [OpenAPI](openapi()) for the paths, [AsyncAPI](asyncapi()) for
//! the bus.
//!
//! Both follow from rules and specs alone. What a server adds of its own (where it listens, where
//! its paths begin) stands in [`openapi()`]'s argument.

mod asyncapi;
mod openapi;
mod schema;

pub use self::asyncapi::asyncapi;
pub use self::openapi::openapi;
