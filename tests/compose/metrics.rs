//! Metrics of the containers, read directly and by Prometheus.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::{http, until};
use serde_json::Value;

use crate::SCALE;
use crate::scenarios::Done;
use crate::stack::Stack;

/// Timeout until an event appears in the metrics.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The sum of the samples of a metric that have these labels, over the containers of a service.
async fn sum(
    stack: &Stack,
    (service, port): (&str, u16),
    metric: &str,
    labels: &[String],
) -> anyhow::Result<f64> {
    let is_it = |sample: &str| {
        let rest = sample.strip_prefix(metric).filter(|rest| rest.starts_with('{'));
        rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label.as_str())))
    };
    let mut sum = 0.0;
    for container in stack.containers(service).await? {
        let figures = http::metrics(&format!("{}:{port}", container.ip)).await?;
        let values = figures.iter().filter(|(sample, _)| is_it(sample));
        sum += values.map(|(_, value)| value).sum::<f64>();
    }
    Ok(sum)
}

/// The edges count their responses, the archive counts actions, and Prometheus scrapes all of them.
pub(crate) async fn are_exact(stack: &Stack, done: &Done) -> anyhow::Result<()> {
    for ((path, status), count) in done {
        let labels = [format!("path=\"{path}\""), format!("status=\"{status}\"")];
        let counted = sum(stack, ("edge", 8000), "concert_http_requests_total", &labels).await?;
        ensure!(counted == f64::from(*count), "expected {count} of {path} {status}, got {counted}");
    }
    // A request that the edge rejects creates no flow.
    let of = |path: &str, statuses: &[u16]| -> u32 {
        statuses.iter().filter_map(|status| done.get(&(path.to_owned(), *status))).sum()
    };
    let labels = ["concept=\"Sessioning\"", "action=\"delete\""].map(str::to_owned);
    let logouts = of("/auth/logout", &[200, 404]);
    let mut counted = 0.0;
    let all = until("the archive counts all logouts", TIMEOUT, async || {
        counted = sum(stack, ("archive", 9100), "concert_actions_total", &labels).await?;
        Ok((counted == f64::from(logouts)).then_some(()))
    });
    all.await.with_context(|| format!("expected {logouts} logouts, got {counted}"))?;
    scraped(stack, of("/auth/login", &[200])).await
}

/// Prometheus with the shipped configuration.
async fn scraped(stack: &Stack, logins: u32) -> anyhow::Result<()> {
    let prometheus = stack.one("prometheus").await?;
    let port = prometheus.port.context("no port")?;
    let url = format!("http://127.0.0.1:{port}/api/v1/query");
    let wanted: usize = SCALE.iter().map(|(_, count)| count).sum();
    for (query, wanted) in [
        ("sum(up)", wanted.to_string()),
        (
            r#"sum(concert_http_requests_total{path="/auth/login",status="200"})"#,
            logins.to_string(),
        ),
    ] {
        let url = reqwest::Url::parse_with_params(&url, [("query", query)])?;
        let mut answer = Value::Null;
        let scraped = until("Prometheus has the values", TIMEOUT, async || {
            answer = serde_json::from_slice(&http::get(url.clone()).await?.bytes().await?)?;
            let value = answer.pointer("/data/result/0/value/1").and_then(Value::as_str);
            Ok((value == Some(&wanted)).then_some(()))
        });
        scraped.await.with_context(|| format!("{query}: expected {wanted}, got {answer}"))?;
    }
    Ok(())
}
