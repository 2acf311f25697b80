//! The report, as Markdown and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::BenchArgs;
use crate::baseline::{FIVE_MESSAGES, FOUR_MESSAGES, LOGIN_MESSAGES};
use crate::kind::Kind;
use crate::large::Large;
use crate::measurement::{Cost, Measurement, Soak, median};
use crate::overload::Overload;
use crate::process::Memory;
use crate::timing::Timing;

/// All results.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The fsync interval of the NATS server.
    pub(crate) sync_interval: String,
    /// `true` if each service has its own account, as with compose.
    pub(crate) isolate_parts: bool,
    /// Number of routers, of edges, and of workers of each concept.
    pub(crate) services: [usize; 3],
    /// `true` if this is an optimised build.
    pub(crate) release_build: bool,
    /// Number of processors.
    pub(crate) processors: usize,
    /// Duration of each run, in seconds.
    pub(crate) seconds: u64,
    /// Names of the other systems.
    pub(crate) peers: Vec<String>,
    /// Baseline of logins: raw argon2id hashes.
    pub(crate) hashes_per_second: f64,
    /// The chains and the scenarios of each round, in the same order.
    pub(crate) rounds: Vec<Vec<Measurement>>,
    /// Logouts while logins keep the processors busy.
    pub(crate) beside_logins: Option<Measurement>,
    /// More logins than the processors can serve.
    pub(crate) overload: Option<Overload>,
    /// Failed logins with unknown usernames and with wrong passwords.
    pub(crate) timing: Option<Timing>,
    /// Large values.
    pub(crate) large: Option<Large>,
    /// Memory at the end.
    pub(crate) processes: Vec<Memory>,
    /// Cost of observability.
    pub(crate) observability: Vec<Cost>,
    /// Memory over many flows.
    pub(crate) soak: Vec<Soak>,
}

const HEAD: &str = concat!(
    "| run | in flight | flows/s | p50 ms | p99 ms | CPU ms per flow | KB written per flow ",
    "| redelivered | ratios of flows/s |\n|---|---:|---:|---:|---:|---|---|---:|---|\n"
);

impl Report {
    /// An empty report.
    pub(crate) fn new(args: &BenchArgs) -> Self {
        Self {
            sync_interval: args.sync_interval.clone(),
            isolate_parts: args.isolates_parts(),
            services: [args.routers, args.edges, args.workers],
            release_build: !cfg!(debug_assertions),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            seconds: args.seconds,
            peers: args.peer.iter().map(|peer| peer.name.clone()).collect(),
            hashes_per_second: 0.0,
            rounds: Vec::new(),
            beside_logins: None,
            overload: None,
            timing: None,
            large: None,
            processes: Vec::new(),
            observability: Vec::new(),
            soak: Vec::new(),
        }
    }

    /// The report as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The report as Markdown.
    pub(crate) fn to_markdown(&self) -> String {
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
        let users =
            if self.isolate_parts { "an account for each service" } else { "one NATS user" };
        let Self { processors, sync_interval, .. } = self;
        let [routers, edges, workers] = self.services;
        writeln!(text, "# Benchmark of Concert\n")?;
        writeln!(
            text,
            "{processors} processors, {build}, {users}, sync_interval {sync_interval},"
        )?;
        writeln!(text, "{routers} routers, {edges} edges, {workers} workers of each concept.")?;
        if !self.soak.is_empty() {
            writeln!(text, "\n| flows | flows/s | memory |\n|---:|---:|---|")?;
        }
        for soak in &self.soak {
            let memory: Vec<_> = soak
                .memory
                .iter()
                .map(|memory| format!("{} {:.0} MB", memory.name, memory.resident_mb))
                .collect();
            let rate = soak.flows_per_second;
            writeln!(text, "| {} | {rate:.0} | {} |", soak.flows, memory.join(", "))?;
        }
        let Some(first) = self.rounds.first() else { return Ok(()) };
        let (rounds, seconds) = (self.rounds.len(), self.seconds);
        let hashes = self.hashes_per_second;
        writeln!(
            text,
            "Raw argon2id: {hashes:.1} hashes/s. Medians of {rounds} rounds of {seconds} s; the other \
             columns are of the round with the median flows/s.\n"
        )?;
        text.push_str(HEAD);
        for at in 0..first.len() {
            self.write_row(text, at)?;
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
        if let Some(large) = &self.large {
            large.write(text)?;
        }
        writeln!(text, "\n| process | resident MB | peak MB |\n|---|---:|---:|")?;
        for Memory { name, resident_mb, peak_mb } in &self.processes {
            writeln!(text, "| {name} | {resident_mb:.0} | {peak_mb:.0} |")?;
        }
        self.write_observability(text)
    }

    /// Writes the row of the measurement that has this place in each round.
    fn write_row(&self, text: &mut String, at: usize) -> std::fmt::Result {
        let mut same: Vec<_> = self.rounds.iter().filter_map(|round| round.get(at)).collect();
        same.sort_by(|one, other| one.flows_per_second.total_cmp(&other.flows_per_second));
        let Some(typical) = same.get(same.len() / 2) else { return Ok(()) };
        let is_peer = self.peers.contains(&typical.name);
        let is_login = !is_peer && typical.name.contains("login");
        let is_scenario = !is_peer && !typical.name.starts_with("chain");
        let mut ratios = Vec::new();
        if is_login {
            let ratio = typical.flows_per_second / self.hashes_per_second;
            ratios.push(format!("{ratio:.2} of the hashes"));
        }
        let others = [
            (typical.is_second, typical.name.as_str(), "the first stack"),
            (is_peer, Kind::UnknownLogout.name(), "Concert"),
            (is_scenario && is_login, LOGIN_MESSAGES, "its chain"),
            (is_scenario && !is_login, FIVE_MESSAGES, "five messages"),
            (is_scenario && !is_login, FOUR_MESSAGES, "four messages"),
        ];
        for (_, name, short) in others.into_iter().filter(|(applies, ..)| *applies) {
            let ratio = self.ratio(at, name, typical.in_flight);
            ratios.extend(ratio.map(|ratio| format!("{ratio:.2} of {short}")));
        }
        line(text, typical, &ratios.join(", "))
    }

    /// Median of the ratios to another run on the first stack, in the same round.
    fn ratio(&self, at: usize, other: &str, in_flight: usize) -> Option<f64> {
        let ratios = self.rounds.iter().filter_map(|round| {
            let is_other = |run: &&Measurement| {
                run.name == other && run.in_flight == in_flight && !run.is_second
            };
            let other = round.iter().find(is_other)?;
            Some(round.get(at)?.flows_per_second / other.flows_per_second)
        });
        let ratios: Vec<f64> = ratios.collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    fn write_overload(&self, text: &mut String, overload: &Overload) -> std::fmt::Result {
        writeln!(
            text,
            concat!(
                "\nMore logins than the processors can serve:\n\n",
                "- accepted {:.1}/s ({:.2} of the hashes/s), p99 {:.0} ms\n",
                "- rejected {:.1}/s, p99 {:.1} ms\n",
                "- concurrent logouts p99 {:.1} ms, the next login after {:.0} ms"
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

    fn write_observability(&self, text: &mut String) -> std::fmt::Result {
        if !self.observability.is_empty() {
            writeln!(
                text,
                concat!(
                    "\nWith archive, traces, metrics and JSON logs, and without:\n\n",
                    "| run | in flight | flows/s with | without | ratio | backlog | read in s |\n",
                    "|---|---:|---:|---:|---:|---:|---:|"
                )
            )?;
        }
        for cost in &self.observability {
            writeln!(
                text,
                "| {} | {} | {:.1} | {:.1} | {:.2} | {} | {:.1} |",
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
}

fn write_timing(text: &mut String, timing: &Timing) -> std::fmt::Result {
    let verdict = if timing.is_told_apart { "distinguishable" } else { "not distinguishable" };
    writeln!(
        text,
        concat!(
            "\nFailed logins, {} of each kind:\n\n",
            "- unknown username p50 {:.2} ms, wrong password p50 {:.2} ms\n",
            "- Mann-Whitney z = {:.2}, probability that the unknown username takes longer {:.3}: ",
            "{} at 1 %"
        ),
        timing.pairs, timing.unknown_p50_ms, timing.wrong_p50_ms, timing.z, timing.chance, verdict
    )
}

fn line(text: &mut String, measurement: &Measurement, ratios: &str) -> std::fmt::Result {
    let Measurement { name, in_flight, flows_per_second, p50_ms, p99_ms, redeliveries, .. } =
        measurement;
    let which = if measurement.is_second { ", second stack" } else { "" };
    let each = |show: &dyn Fn(&crate::process::PerFlow) -> String| {
        measurement.processes.iter().map(show).collect::<Vec<_>>().join(", ")
    };
    let cpu = each(&|process| format!("{} {:.3}", process.name, process.cpu_ms));
    let written =
        each(&|process| format!("{} {:.1}", process.name, process.written_bytes / 1024.0));
    writeln!(
        text,
        "| {name}{which} | {in_flight} | {flows_per_second:.1} | {p50_ms:.2} | {p99_ms:.2} | {cpu} | \
         {written} | {redeliveries} | {ratios} |"
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn run(name: &str, flows_per_second: f64) -> Measurement {
        let (p50_ms, p99_ms) = (1.0, 2.0);
        let (flows, processes, redeliveries) = (9, Vec::new(), 0);
        Measurement {
            name: name.to_owned(),
            is_second: false,
            in_flight: 16,
            flows,
            flows_per_second,
            p50_ms,
            p99_ms,
            processes,
            redeliveries,
        }
    }

    #[test]
    fn row_has_the_median_of_the_rounds_and_of_their_ratios() {
        let peer = "Other login=http://127.0.0.1:9/";
        let mut report = Report::new(&BenchArgs::parse_from(["bench", "--peer", peer]));
        let name = Kind::UnknownLogout.name();
        for (chain, logout) in [(100.0, 50.0), (200.0, 60.0), (50.0, 40.0)] {
            let second = Measurement { is_second: true, ..run(name, logout * 1.5) };
            let peer = run("Other login", logout / 4.0);
            report.rounds.push(vec![run(FIVE_MESSAGES, chain), run(name, logout), second, peer]);
        }
        let text = report.to_markdown();
        for row in [
            format!("| {name} | 16 | 50.0 | 1.00 | 2.00 |  |  | 0 | 0.50 of five"),
            format!("| {name}, second stack | 16 | 75.0 |"),
            "1.50 of the first stack, 0.75 of five messages".to_owned(),
            "| chain of five messages | 16 | 100.0 |".to_owned(),
            "| Other login | 16 | 12.5 | 1.00 | 2.00 |  |  | 0 | 0.25 of Concert |".to_owned(),
        ] {
            assert!(text.contains(&row), "no {row} in:\n{text}");
        }
    }
}
