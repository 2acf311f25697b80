//! What the containers tell of themselves, read by hand and by Prometheus.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::{http, until};
use serde_json::Value;

use crate::SCALE;
use crate::scenarios::Done;
use crate::stack::Stack;

/// How long it may take until what happened is told.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let figures = http::figures(&format!("{}:{port}", container.ip)).await?;
        let values = figures.iter().filter(|(sample, _)| is_it(sample));
        sum += values.map(|(_, value)| value).sum::<f64>();
    }
    Ok(sum)
}

/// The edges count what they answered, the archive what happened; and Prometheus finds all of them.
pub(crate) async fn tell(stack: &Stack, done: &Done) -> anyhow::Result<()> {
    for ((path, status), count) in done {
        let labels = [format!("path=\"{path}\""), format!("status=\"{status}\"")];
        let told = sum(stack, ("edge", 8000), "concert_http_requests_total", &labels).await?;
        ensure!(told == f64::from(*count), "{told} and not {count} of {path} {status}");
    }
    // What was refused at the edge is no flow.
    let of = |path: &str, statuses: &[u16]| -> u32 {
        let counted = statuses.iter().filter_map(|status| done.get(&(path.to_owned(), *status)));
        counted.sum()
    };
    let labels = ["concept=\"Sessioning\"", "action=\"delete\""].map(str::to_owned);
    let logouts = of("/auth/logout", &[200, 404]);
    let mut told = 0.0;
    let all = until("that the archive has all", PATIENCE, async || {
        told = sum(stack, ("archive", 9100), "concert_actions_total", &labels).await?;
        Ok((told == f64::from(logouts)).then_some(()))
    });
    all.await.with_context(|| format!("{told} and not {logouts} logouts"))?;
    scraped(stack, of("/auth/login", &[200])).await
}

/// Prometheus, with the configuration that is shipped.
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
        let scraped = until("that Prometheus has it", PATIENCE, async || {
            answer = serde_json::from_slice(&http::get(url.clone()).await?.bytes().await?)?;
            let value = answer.pointer("/data/result/0/value/1").and_then(Value::as_str);
            Ok((value == Some(&wanted)).then_some(()))
        });
        scraped.await.with_context(|| format!("{query}: {answer} and not {wanted}"))?;
    }
    Ok(())
}
