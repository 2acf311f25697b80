//! The arguments of `concert up`.

use std::path::PathBuf;

use clap::Args;

use crate::config::{SettingFlags, of};

/// Arguments of `concert up`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) settings: SettingFlags<of::Up>,
    /// Start with new keys if key files were lost; what the lost keys encrypted cannot be read
    #[arg(long)]
    pub(crate) accept_new_keys: bool,
    /// Write connection details of the started servers to this file, as JSON
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) started_file: Option<PathBuf>,
}

/// Arguments of `concert dev`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    pub(crate) up: UpArgs,
    /// Shell command to run when all workers are ready, such as a frontend or tests; it gets the
    /// URL of the paths in CONCERT_API, and its end stops everything
    #[arg(long, value_name = "COMMAND")]
    pub(crate) start: Option<String>,
}
