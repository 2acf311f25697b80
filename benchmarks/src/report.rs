//! The report, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::BenchArgs;
use crate::measurement::{Cost, Measurement, Soak};
use crate::overload::Overload;
use crate::process::Memory;
use crate::timing::Timing;

/// All results.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The fsync interval of the NATS server.
    pub(crate) sync_interval: String,
    /// `true` if this is an optimised build.
    pub(crate) release_build: bool,
    /// Number of processors.
    pub(crate) processors: usize,
    /// Baseline of logins: raw argon2id hashes.
    pub(crate) hashes_per_second: f64,
    /// Baseline of all other requests: the message-only chain.
    pub(crate) chains: Vec<Measurement>,
    /// Second baseline of logins: the message-only chain with a hash.
    pub(crate) login_chains: Vec<Measurement>,
    /// The scenarios.
    pub(crate) results: Vec<Measurement>,
    /// Logouts while logins keep the processors busy.
    pub(crate) beside_logins: Option<Measurement>,
    /// More logins than the processors can serve.
    pub(crate) overload: Option<Overload>,
    /// Failed logins with unknown usernames and with wrong passwords.
    pub(crate) timing: Option<Timing>,
    /// Memory at the end.
    pub(crate) processes: Vec<Memory>,
    /// Cost of observability.
    pub(crate) observability: Vec<Cost>,
    /// Memory over many flows.
    pub(crate) soak: Vec<Soak>,
}

impl Report {
    /// An empty report.
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

    /// The report as JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The report as text.
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
            "DEBUG BUILD: these numbers are meaningless"
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
            if let Some(baseline) = self.login_chain(chain.in_flight) {
                line(text, baseline, &self.of_hashes(baseline))?;
            }
            for result in self.results.iter().filter(|result| result.in_flight == chain.in_flight) {
                line(text, result, &self.ratios(result, chain))?;
            }
        }
        if let Some(measurement) = &self.beside_logins {
            line(text, measurement, "")?;
        }
        if let Some(overload) = &self.overload {
            self.write_overload(text, overload)?;
        }
        if let Some(timing) = &self.timing {
            write_timing(text, timing)?;
        }
        writeln!(text, "\nresident memory at the end (peak):")?;
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
                "\nwith archive, traces, metrics and JSON logs, compared with a stack without:"
            )?;
        }
        for cost in &self.observability {
            writeln!(
                text,
                concat!(
                    "  {:<30} {:>3} in flight  {:>7.1} of {:>7.1} flows/s: {:.2}; ",
                    "archive backlog {} messages, read in {:.1} s"
                ),
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
            concat!(
                "\nmore logins than the processors can serve:\n",
                "  accepted {:>8.1}/s ({:.2} of the hashes/s), p99 {:.0} ms\n",
                "  rejected {:>8.1}/s, p99 {:.1} ms\n",
                "  concurrent logouts p99 {:.1} ms, the next login after {:.0} ms"
            ),
            overload.answered_per_second,
            overload.answered_per_second / self.hashes_per_second,
            overload.answered_p99_ms,
            overload.refused_per_second,
            overload.refused_p99_ms,
            overload.logout_p99_ms,
            overload.next_login_ms
        )
    }

    fn login_chain(&self, in_flight: usize) -> Option<&Measurement> {
        self.login_chains.iter().find(|baseline| baseline.in_flight == in_flight)
    }

    fn of_hashes(&self, result: &Measurement) -> String {
        format!("{:.2} of the hashes/s", result.flows_per_second / self.hashes_per_second)
    }

    fn ratios(&self, result: &Measurement, chain: &Measurement) -> String {
        let hashes = if result.name.contains("login") {
            let of_baseline = self.login_chain(result.in_flight).map(|baseline| {
                format!(
                    "{:.2} of its message-only chain's flows/s, ",
                    result.flows_per_second / baseline.flows_per_second
                )
            });
            format!("{}, {}", self.of_hashes(result), of_baseline.unwrap_or_default())
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
    let verdict = if timing.is_told_apart { "distinguishable" } else { "not distinguishable" };
    writeln!(
        text,
        concat!(
            "\nfailed logins, {} of each kind:\n",
            "  unknown username p50 {:.2} ms, wrong password p50 {:.2} ms\n",
            "  Mann-Whitney z = {:.2}, probability that the unknown username takes longer {:.3}: ",
            "{} at 1 %"
        ),
        timing.pairs, timing.unknown_p50_ms, timing.wrong_p50_ms, timing.z, timing.chance, verdict
    )
}

fn line(text: &mut String, measurement: &Measurement, ratios: &str) -> std::fmt::Result {
    let Measurement { name, in_flight, flows_per_second, p50_ms, p99_ms, cpu_ms_per_flow, .. } =
        measurement;
    writeln!(
        text,
        "{name:<30} {in_flight:>9} {flows_per_second:>10.1} {p50_ms:>9.2} {p99_ms:>9.2} {cpu_ms_per_flow:>11.3}  {ratios}"
    )
}
