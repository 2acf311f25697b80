//! Archives dead letters with their flows.

use concert_engine::provenance::DeadLetter;
use concert_runtime::ack;
use concert_runtime::feed::Feed;
use concert_runtime::nats::Message;
use concert_runtime::process::Shutdown;
use concert_runtime::retry::Backoff;
use concert_wire::header;
use concert_wire::id::FlowId;

use crate::metrics::Metrics;
use crate::repository::Archive;
use crate::writer::Writer;

/// Archives dead letters until shutdown.
pub(crate) async fn run(
    mut feed: Feed,
    writer: Writer,
    archive: Archive,
    metrics: Metrics,
    shutdown: Shutdown,
) {
    let backoff = Backoff::default();
    loop {
        let message = tokio::select! {
            () = shutdown.requested() => return,
            message = feed.next() => message,
        };
        let Some((seq, flow, letter)) = letter(&message) else {
            ack::sent(&message).await;
            continue;
        };
        match archive.keep_letter(seq, flow, &letter).await {
            Ok(()) => {
                metrics.died(message.subject.split('.').nth(1).unwrap_or_default());
                writer.died(flow).await;
                ack::sent(&message).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot archive a dead letter; retrying");
                ack::later(&message, backoff.most).await;
            }
        }
    }
}

/// Parses a dead letter; `None` if it has no flow.
fn letter(message: &Message) -> Option<(u64, FlowId, DeadLetter)> {
    let info = message.info().ok()?;
    let header = |name| Some(message.headers.as_ref()?.get(name)?.as_str());
    let letter = DeadLetter {
        action: header(header::ACTION)?.parse().ok()?,
        reason: header(header::REASON).unwrap_or("unknown reason").to_owned(),
        attempts: header(header::ATTEMPTS).and_then(|text| text.parse().ok()),
        at_us: u64::try_from(info.published.unix_timestamp_nanos() / 1000).ok()?,
    };
    let flow = header(header::FLOW)?.parse().ok()?;
    Some((info.stream_sequence, flow, letter))
}
