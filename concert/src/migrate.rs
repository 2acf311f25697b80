//! `concert migrate`: imports the data of another system into the databases of the concepts.

use anyhow::{Context as _, bail};
use clap::Args;
use concert_runtime::process::Shutdown;
use concert_worker::Worker;
use concert_worker::store::{Import, ImportCounts, ImportOptions, ImportReport, OldData};

use crate::config::{SettingFlags, of};
use crate::{output, running, workers};

/// Arguments of `concert migrate`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MigrateArgs {
    /// What to import, such as `accounts` or `library`; if not given, everything
    #[arg(value_name = "KIND")]
    kinds: Vec<String>,
    /// The old data: the `mongodb://` URI of a database, a directory with a file of `mongoexport`
    /// for each collection, or a JSON file with a list for each collection
    #[arg(long, value_name = "URI|PATH")]
    from: String,
    /// Check and count everything, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Import an account or a document under another name. Repeatable
    #[arg(long, value_name = "ID=NAME", value_parser = id_and_name)]
    rename: Vec<(String, String)>,
    /// Leave out an account with its data, or another document. Repeatable
    #[arg(long, value_name = "ID")]
    leave: Vec<String>,
    #[command(flatten)]
    settings: SettingFlags<of::Worker>,
}

fn id_and_name(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').map(|(id, name)| (id.to_owned(), name.to_owned()));
    parts.ok_or_else(|| "write ID=NAME".to_owned())
}

/// Imports one kind after the other. Stops after one with rejected documents, except in a dry run.
pub(crate) async fn run(args: MigrateArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let importers = importers(workers, &args.kinds)?;
    let loaded = args.settings.load_all_and_warn(workers)?;
    let store = running::store(loaded.settings.clone())?;
    let old = OldData::open(&args.from).await?;
    let options = ImportOptions {
        is_dry_run: args.dry_run,
        renamed: args.rename.into_iter().collect(),
        left: args.leave.into_iter().collect(),
    };
    let mut rejected = 0;
    for (kind, worker) in importers {
        let of = workers::options(worker, &loaded.settings, store.clone(), Shutdown::new());
        let import = Import::new(old.clone(), options.clone());
        let report = Box::pin(worker.import(of, import)).await;
        let report = report.with_context(|| format!("cannot import {kind}"))?;
        print(kind, &report);
        rejected += report.rejected.len();
        if rejected > 0 && !args.dry_run {
            break;
        }
    }
    if args.dry_run {
        output::print_line("dry run: nothing is written");
    }
    if rejected > 0 {
        bail!(
            "cannot import all documents ({rejected} rejected); give them another name with \
             --rename ID=NAME, or leave them out with --leave ID, and run the command again"
        );
    }
    Ok(())
}

/// The workers that import these kinds, or all that import, in the order of the program.
fn importers<'a>(
    workers: &'a [Worker],
    kinds: &[String],
) -> anyhow::Result<Vec<(&'static str, &'a Worker)>> {
    let all: Vec<_> =
        workers.iter().filter_map(|worker| Some((worker.imports()?, worker))).collect();
    if let Some(unknown) = kinds.iter().find(|kind| all.iter().all(|(known, _)| known != kind)) {
        let known: Vec<&str> = all.iter().map(|(kind, _)| *kind).collect();
        bail!("no worker of this program imports `{unknown}`; choose of {}", known.join(", "));
    }
    let is_chosen = |kind: &str| kinds.is_empty() || kinds.iter().any(|chosen| chosen == kind);
    Ok(all.into_iter().filter(|(kind, _)| is_chosen(kind)).collect())
}

fn print(kind: &str, report: &ImportReport) {
    output::print_line(format_args!("{kind}:"));
    for (collection, ImportCounts { new, before, left }) in &report.counts {
        output::print_line(format_args!(
            "  {collection}: {new} imported, {before} imported before, {left} left out"
        ));
    }
    for note in &report.notes {
        output::print_line(format_args!("  changed: {note}"));
    }
    for rejected in &report.rejected {
        output::print_line(format_args!("  rejected: {rejected}"));
    }
}
