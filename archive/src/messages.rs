//! Conversions between delivered, stored and archived log messages.

use concert_engine::provenance::Stored;
use concert_runtime::log;
use concert_runtime::nats::{HeaderMap, Message};
use concert_wire::header;
use concert_wire::id::FlowId;
use concert_wire::subject::CompletionSubject;
use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

fn header_value(headers: Option<&HeaderMap>, header: &str) -> Option<String> {
    Some(headers?.get(header)?.to_string())
}

/// The root of a flow, if it is among these messages.
pub(crate) fn root(flow: FlowId, messages: &[Stored]) -> Option<&Stored> {
    let id = flow.root().to_string();
    messages.iter().find(|message| message.subject.ends_with(&id))
}

/// Converts a delivered message, and parses its subject; `None` if it is not a completion.
pub(crate) fn delivered(message: &Message) -> Option<(CompletionSubject, Stored)> {
    let subject = CompletionSubject::parse(&message.subject).ok()?;
    let info = message.info().ok()?;
    let time_us = u64::try_from(info.published.unix_timestamp_nanos() / 1000).ok()?;
    let stored = Stored {
        seq: info.stream_sequence,
        time_us,
        subject: message.subject.to_string(),
        body: message.payload.to_vec(),
        traceparent: header_value(message.headers.as_ref(), header::TRACEPARENT),
        work: header_value(message.headers.as_ref(), header::WORK),
    };
    Some((subject, stored))
}

/// Converts a message that was read from the log.
pub(crate) fn read(message: &log::Stored) -> Stored {
    Stored {
        seq: message.seq,
        time_us: message.time_us(),
        subject: message.subject.clone(),
        body: message.body.to_vec(),
        traceparent: header_value(Some(&message.headers), header::TRACEPARENT),
        work: header_value(Some(&message.headers), header::WORK),
    }
}

/// Converts an unsigned number, for which MongoDB has no type. No number of Concert exceeds its
/// maximum.
pub(crate) fn number(value: u64) -> Bson {
    Bson::Int64(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Converts a message for its flow's document. The result is the same for each redelivery.
pub(crate) fn to_document(stored: &Stored) -> Document {
    let bytes = Binary { subtype: BinarySubtype::Generic, bytes: stored.body.clone() };
    let mut document = doc! {
        "seq": number(stored.seq),
        "at": number(stored.time_us),
        "subject": &stored.subject,
        "body": bytes,
    };
    for (name, value) in [("traceparent", &stored.traceparent), ("work", &stored.work)] {
        if let Some(value) = value {
            document.insert(name, value);
        }
    }
    document
}

/// The inverse of [`to_document`].
pub(crate) fn of_document(document: &Document) -> Option<Stored> {
    let number = |name| u64::try_from(document.get_i64(name).ok()?).ok();
    Some(Stored {
        seq: number("seq")?,
        time_us: number("at")?,
        subject: document.get_str("subject").ok()?.to_owned(),
        body: document.get_binary_generic("body").ok()?.clone(),
        traceparent: document.get_str("traceparent").ok().map(str::to_owned),
        work: document.get_str("work").ok().map(str::to_owned),
    })
}
