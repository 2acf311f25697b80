//! Machine-readable descriptions of an application: [OpenAPI](openapi()) of the paths, and
//! [AsyncAPI](asyncapi()) of the bus.
//!
//! Both are derived only from rules and specs. The deployment-specific URL prefix is an argument of
//! [`openapi()`].

mod asyncapi;
mod openapi;
mod operation;
mod schema;

pub use self::asyncapi::asyncapi;
pub use self::openapi::openapi;
