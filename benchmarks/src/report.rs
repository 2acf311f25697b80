//! The report, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::BenchArgs;
use crate::figures::{Cost, Figures, Soak};
use crate::overload::Overload;
use crate::process::Memory;
use crate::timing::Timing;

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// How often the NATS server brought its files to the disk.
    pub(crate) sync_interval: String,
    /// Whether the program was built with optimisation.
    pub(crate) release_build: bool,
    /// Processors.
    pub(crate) processors: usize,
    /// The floor of logins: raw argon2id.
    pub(crate) hashes_per_second: f64,
    /// The floor of everything else: the bare chain of messages.
    pub(crate) chains: Vec<Figures>,
    /// The floor of logins that knows their messages, too: the bare chain of a login with its hash.
    pub(crate) login_chains: Vec<Figures>,
    /// The scenarios.
    pub(crate) results: Vec<Figures>,
    /// Logouts while the processors are busy with logins.
    pub(crate) beside_logins: Option<Figures>,
    /// More logins than there are processors for.
    pub(crate) overload: Option<Overload>,
    /// Logins that fail, under names that nobody has and others.
    pub(crate) timing: Option<Timing>,
    /// Memory at the end.
    pub(crate) processes: Vec<Memory>,
    /// What it costs to look at what happens.
    pub(crate) observability: Vec<Cost>,
    /// Memory over many flows.
    pub(crate) soak: Vec<Soak>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(args: &BenchArgs) -> Self {
        Self {
            sync_interval: args.sync_interval.clone(),
            release_build: !cfg!(debug_assertions),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            hashes_per_second: 0.0,
            chains: Vec::new(),
            login_chains: Vec::new(),
            results: Vec::new(),
            beside_logins: None,
            overload: None,
            timing: None,
            processes: Vec::new(),
            observability: Vec::new(),
            soak: Vec::new(),
        }
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let build = if self.release_build {
            "release build"
        } else {
            "DEBUG BUILD: these figures say nothing"
        };
        writeln!(
            text,
            "\nconcert bench: {} processors, {build}, sync_interval {}",
            self.processors, self.sync_interval
        )?;
        for soak in &self.soak {
            write!(text, "{:>9} flows  {:>8.0} flows/s", soak.flows, soak.flows_per_second)?;
            for memory in &soak.memory {
                write!(text, "  {} {:.0} MB", memory.name, memory.resident_mb)?;
            }
            writeln!(text)?;
        }
        if self.chains.is_empty() {
            return Ok(());
        }
        writeln!(text, "raw argon2id: {:.1} hashes/s\n", self.hashes_per_second)?;
        writeln!(
            text,
            "{:<30} {:>9} {:>10} {:>9} {:>9} {:>11}  ratios",
            "", "in flight", "flows/s", "p50 ms", "p99 ms", "CPU ms/flow"
        )?;
        for chain in &self.chains {
            line(text, chain, "")?;
            if let Some(floor) = self.login_chain(chain.in_flight) {
                line(text, floor, &self.of_hashes(floor))?;
            }
            for result in self.results.iter().filter(|result| result.in_flight == chain.in_flight) {
                line(text, result, &self.ratios(result, chain))?;
            }
        }
        if let Some(figures) = &self.beside_logins {
            line(text, figures, "")?;
        }
        if let Some(overload) = &self.overload {
            self.write_overload(text, overload)?;
        }
        if let Some(timing) = &self.timing {
            write_timing(text, timing)?;
        }
        writeln!(text, "\nresident memory at the end (at most):")?;
        for memory in &self.processes {
            writeln!(
                text,
                "  {:<12} {:>6.0} MB ({:.0} MB)",
                memory.name, memory.resident_mb, memory.peak_mb
            )?;
        }
        if !self.observability.is_empty() {
            writeln!(
                text,
                "\nwith archive, traces, metrics and JSON logs, beside a stack without:"
            )?;
        }
        for cost in &self.observability {
            writeln!(
                text,
                "  {:<30} {:>3} in flight  {:>7.1} for {:>7.1} flows/s: {:.2}; the archive was {} messages behind, and caught up in {:.1} s",
                cost.name,
                cost.in_flight,
                cost.on_per_second,
                cost.off_per_second,
                cost.ratio,
                cost.behind,
                cost.caught_up_s
            )?;
        }
        Ok(())
    }

    fn write_overload(&self, text: &mut String, overload: &Overload) -> std::fmt::Result {
        writeln!(
            text,
            "\nmore logins than there are processors for:\n  answered {:>8.1}/s ({:.2} of the hashes/s), p99 {:.0} ms\n  refused  {:>8.1}/s, p99 {:.1} ms\n  logouts meanwhile p99 {:.1} ms, the next login after {:.0} ms",
            overload.answered_per_second,
            overload.answered_per_second / self.hashes_per_second,
            overload.answered_p99_ms,
            overload.refused_per_second,
            overload.refused_p99_ms,
            overload.logout_p99_ms,
            overload.next_login_ms
        )
    }

    fn login_chain(&self, in_flight: usize) -> Option<&Figures> {
        self.login_chains.iter().find(|floor| floor.in_flight == in_flight)
    }

    fn of_hashes(&self, result: &Figures) -> String {
        format!("{:.2} of the hashes/s", result.flows_per_second / self.hashes_per_second)
    }

    fn ratios(&self, result: &Figures, chain: &Figures) -> String {
        let hashes = if result.name.contains("login") {
            let of_floor = self.login_chain(result.in_flight).map(|floor| {
                format!(
                    "{:.2} of its bare chain's flows/s, ",
                    result.flows_per_second / floor.flows_per_second
                )
            });
            format!("{}, {}", self.of_hashes(result), of_floor.unwrap_or_default())
        } else {
            String::new()
        };
        format!(
            "{hashes}{:.2} of the chain's flows/s, {:.2} x its p50",
            result.flows_per_second / chain.flows_per_second,
            result.p50_ms / chain.p50_ms
        )
    }
}

fn write_timing(text: &mut String, timing: &Timing) -> std::fmt::Result {
    let verdict = if timing.is_told_apart { "told apart" } else { "not told apart" };
    writeln!(
        text,
        "\nlogins that fail, {} of each kind in turn:\n  unknown name p50 {:.2} ms, wrong password p50 {:.2} ms\n  Mann-Whitney z = {:.2}, chance that the unknown name takes longer {:.3}: {verdict} at 1 %",
        timing.pairs, timing.unknown_p50_ms, timing.wrong_p50_ms, timing.z, timing.chance
    )
}

fn line(text: &mut String, figures: &Figures, ratios: &str) -> std::fmt::Result {
    let Figures { name, in_flight, flows_per_second, p50_ms, p99_ms, cpu_ms_per_flow, .. } =
        figures;
    writeln!(
        text,
        "{name:<30} {in_flight:>9} {flows_per_second:>10.1} {p50_ms:>9.2} {p99_ms:>9.2} {cpu_ms_per_flow:>11.3}  {ratios}"
    )
}
