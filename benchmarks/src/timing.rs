//! Tests whether response times distinguish a login with an unknown username from one with a wrong
//! password.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use crate::http::Connection;
use crate::measurement::median;

/// Number of accounts with a wrong password, and of unknown usernames. Each gets only a few
/// attempts.
const NAMES: usize = 32;
/// Attempts of each kind before the measured ones.
const WARM_UP: usize = 50;
/// Largest score that counts as chance, with a false-positive rate of 1 %.
const DISTINCT: f64 = 2.576;

/// The result of the test.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Timing {
    /// Attempts of each kind.
    pub(crate) pairs: usize,
    /// Median response time for an unknown username, in milliseconds.
    pub(crate) unknown_p50_ms: f64,
    /// Median response time for a wrong password, in milliseconds.
    pub(crate) wrong_p50_ms: f64,
    /// The Mann-Whitney rank statistic, in standard deviations.
    pub(crate) z: f64,
    /// Probability that an attempt of the first kind takes longer than one of the second; 0.5 means
    /// no difference.
    pub(crate) chance: f64,
    /// The verdict.
    pub(crate) is_told_apart: bool,
}

/// Alternates attempts of both kinds, one at a time, until the time is up.
pub(crate) async fn run(address: SocketAddr, time: Duration) -> anyhow::Result<Timing> {
    let mut connection = Connection::open(address).await?;
    for number in 0..NAMES {
        let account =
            json!({ "username": format!("timing{number}"), "password": "correct horse battery" });
        let answer = connection.post("/api/auth/createAccount", &account.to_string()).await?;
        ensure!(answer.status == 200, "cannot create an account: status {}", answer.status);
    }
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    let mut began = Instant::now();
    let mut number = 0;
    while number < WARM_UP || began.elapsed() < time {
        if number == WARM_UP {
            (unknown, wrong) = (Vec::new(), Vec::new());
            began = Instant::now();
        }
        // Each kind goes first equally often.
        for kind in [number % 2, (number + 1) % 2] {
            let (name, times) = match kind {
                0 => ("nobody", &mut unknown),
                _ => ("timing", &mut wrong),
            };
            times.push(attempt(&mut connection, &format!("{name}{}", number % NAMES)).await?);
        }
        number += 1;
    }
    let (z, chance) = rank_test(&unknown, &wrong);
    Ok(Timing {
        pairs: unknown.len(),
        unknown_p50_ms: median(unknown) * 1000.0,
        wrong_p50_ms: median(wrong) * 1000.0,
        z,
        chance,
        is_told_apart: z.abs() > DISTINCT,
    })
}

/// Response time of a rejected login, in seconds.
async fn attempt(connection: &mut Connection, username: &str) -> anyhow::Result<f64> {
    let body = json!({ "username": username, "password": "wrong horse battery" }).to_string();
    let sent = Instant::now();
    let answer = connection.post("/api/auth/login", &body).await?;
    let took = sent.elapsed().as_secs_f64();
    ensure!(answer.status == 401, "/auth/login returned {}", answer.status);
    Ok(took)
}

/// The Mann-Whitney test. Returns how far the rank sum of `one` is from its expected value, in
/// standard deviations, and the probability that a value of `one` exceeds one of `other`.
fn rank_test(one: &[f64], other: &[f64]) -> (f64, f64) {
    let mut all: Vec<(f64, bool)> = one.iter().map(|time| (*time, true)).collect();
    all.extend(other.iter().map(|time| (*time, false)));
    all.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
    let (mut ranks, mut below) = (0.0, 0.0);
    for equal in all.chunk_by(|(a, _), (b, _)| a == b) {
        let count = equal.len() as f64;
        // Equal times share their ranks.
        let rank = below + (count + 1.0) / 2.0;
        ranks += rank * equal.iter().filter(|(_, is_one)| *is_one).count() as f64;
        below += count;
    }
    let (n, m) = (one.len() as f64, other.len() as f64);
    let above = ranks - n * (n + 1.0) / 2.0;
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    ((above - n * m / 2.0) / deviation, above / (n * m))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_test_detects_a_shift_but_not_chance() {
        let times = |shift: f64| -> Vec<f64> {
            (0..500).map(|i| f64::from(i * 37 % 101) + shift).collect()
        };
        let (z, chance) = rank_test(&times(0.0), &times(0.0));
        assert!(z.abs() < 0.01 && (chance - 0.5).abs() < 0.001, "{z} {chance}");
        let (z, chance) = rank_test(&times(10.0), &times(0.0));
        assert!(z > DISTINCT && chance > 0.55, "{z} {chance}");
        let (back, _) = rank_test(&times(0.0), &times(10.0));
        assert!((z + back).abs() < 0.01, "{z} {back}");
        // Two against two values, with one equal pair.
        let (_, chance) = rank_test(&[1.0, 2.0], &[2.0, 3.0]);
        assert!((chance - 0.125).abs() < 1e-9, "{chance}");
    }
}
