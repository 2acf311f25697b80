//! Tests of the whole system. They are one program because most of them wait for servers, and cargo
//! runs programs one after the other.

mod application;
#[path = "archive/main.rs"]
mod archive;
mod bad_input;
mod bus_permissions;
mod connections;
mod crashes;
mod dead_letters;
mod dev;
mod encryption;
mod eviction;
mod key_rotation;
mod large;
mod login;
mod login_defence;
mod long_flows;
mod migrate;
mod missing_workers;
mod nats_recipes;
mod nested;
mod outages;
mod overload;
mod page_api;
mod queries;
mod reader;
mod readme;
mod rolling_restart;
mod routes;
mod rules;
mod secrets;
mod session_cookie;
mod sessioning;
mod sessions;
mod static_files;
mod telemetry;
mod terminal;
mod unreadable;
mod up;
mod wire;
mod worker_specs;
