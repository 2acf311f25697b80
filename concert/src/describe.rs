//! `concert describe`: prints descriptions of the application for other tools.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use concert_analysis::describe;
use concert_wire::openapi::{self, EdgeSettings};
use concert_worker::Worker;

use crate::config::{SettingFlags, of};
use crate::output;

/// Arguments of `concert describe`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    /// Description to print
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) what: Described,
    #[command(flatten)]
    settings: SettingFlags<of::Rules>,
}

/// A kind of description.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Described {
    /// HTTP API as OpenAPI 3.1
    Openapi,
    /// Message bus as AsyncAPI 3.1
    Asyncapi,
}

/// Prints the description.
pub(crate) fn run(args: &DescribeArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = args.settings.load_and_warn(workers)?;
    let program = concert_sync_router::load_unverified(&settings.rules)?;
    let document = match args.what {
        Described::Openapi => {
            let (base, errors) = (&settings.http.base, settings.http.errors);
            let mut document = describe::openapi(&program, base.trim_end_matches('/'));
            let edge = EdgeSettings {
                has_refusals_as_200: settings.http.refusals.are_200(),
                errors: errors.errors,
                misfit_status: errors.misfit_status,
            };
            openapi::of_edge(&mut document, base, edge);
            openapi::name_headers(&mut document, &settings.http.headers.by_key());
            document
        }
        Described::Asyncapi => describe::asyncapi(&program),
    };
    let text =
        serde_json::to_string_pretty(&document).context("cannot serialize the description")?;
    output::print_text(&format!("{text}\n")).context("cannot print the description")
}
