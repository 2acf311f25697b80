//! What the containers tell of themselves, read by hand and by Prometheus.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::SCALE;
use crate::scenarios::Done;
use crate::stack::Stack;

/// How long it may take until what happened is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sum of the samples of a metric that have these labels, over the containers of a service.
async fn sum(stack: &Stack, (service, port): (&str, u16), metric: &str, labels: &[String]) -> anyhow::Result<u64> {
    let mut sum = 0;
    for container in stack.containers(service).await? {
        let text = reqwest::get(format!("http://{}:{port}/metrics", container.ip))
            .await?
            .text()
            .await?;
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Some(rest) = name.strip_prefix(metric) else {
                continue;
            };
            let is_it = rest.starts_with('{') && labels.iter().all(|label| rest.contains(label.as_str()));
            if is_it {
                sum += value.parse::<u64>()?;
            }
        }
    }
    Ok(sum)
}

/// The edges count what they answered, the archive what happened; and Prometheus finds all of them.
pub(crate) async fn tell(stack: &Stack, done: &Done) -> anyhow::Result<()> {
    for ((path, status), count) in done {
        let labels = [format!("path=\"{path}\""), format!("status=\"{status}\"")];
        let told = sum(stack, ("edge", 8000), "concert_http_requests_total", &labels).await?;
        ensure!(told == *count, "{told} and not {count} of {path} {status}");
    }
    // What was refused at the edge is no flow.
    let of = |path: &str, statuses: &[u16]| -> u64 {
        let counted = statuses
            .iter()
            .filter_map(|status| done.get(&(path.to_owned(), *status)));
        counted.sum()
    };
    let labels = ["concept=\"Sessioning\"", "action=\"delete\""].map(str::to_owned);
    let logouts = of("/auth/logout", &[200, 404]);
    let began = Instant::now();
    loop {
        let told = sum(stack, ("archive", 9100), "concert_actions_total", &labels).await?;
        if told == logouts {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "{told} and not {logouts} logouts");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scraped(stack, of("/auth/login", &[200])).await
}

/// Prometheus, with the configuration that is shipped.
async fn scraped(stack: &Stack, logins: u64) -> anyhow::Result<()> {
    let prometheus = stack
        .containers("prometheus")
        .await?
        .first()
        .context("no Prometheus")?
        .clone();
    let port = prometheus.port.context("no port")?;
    let wanted: usize = SCALE.iter().map(|(_, count)| count).sum();
    for (query, wanted) in [
        ("sum(up)", wanted.to_string()),
        (
            r#"sum(concert_http_requests_total{path="/auth/login",status="200"})"#,
            (logins).to_string(),
        ),
    ] {
        let began = Instant::now();
        loop {
            let url =
                reqwest::Url::parse_with_params(&format!("http://127.0.0.1:{port}/api/v1/query"), [("query", query)])?;
            let answer: Value = serde_json::from_slice(&reqwest::get(url).await?.bytes().await?)?;
            let value = answer.pointer("/data/result/0/value/1").and_then(Value::as_str);
            if value == Some(&wanted) {
                break;
            }
            ensure!(began.elapsed() < PATIENCE, "{query}: {answer} and not {wanted}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}
