//! The stream of the large values (ADR 38).

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind};
use async_nats::jetstream::stream::Config;
use concert_wire::large::blob::{BLOBS, BLOBS_SUBJECTS};

use super::{LogLimits, SetupError, failed_sized, stream_config};
use crate::bus::Bus;

/// Smallest size that is tried if the server has less storage.
const DEFAULT_BYTES_MIN: i64 = 64 << 20;

/// Creates the stream of the large values, or updates its limits. It always has a maximum size, so
/// that the log keeps its disk space.
pub(super) async fn make(bus: &Bus, limits: &LogLimits) -> Result<(), SetupError> {
    let is_default = limits.large_values_max_bytes == 0;
    let mut max_bytes = limits.large_values_max_bytes();
    loop {
        let config = Config {
            name: BLOBS.to_owned(),
            description: Some("large values, encrypted and in chunks".to_owned()),
            subjects: vec![BLOBS_SUBJECTS.to_owned()],
            max_age: limits.large_values_max_age(),
            max_bytes,
            max_messages_per_subject: 1,
            discard_new_per_subject: true,
            ..stream_config(limits)
        };
        let Err(error) = bus.jetstream.create_or_update_stream(config).await else {
            return Ok(());
        };
        if !is_default || max_bytes / 2 < DEFAULT_BYTES_MIN || !lacks_storage(&error) {
            return Err(failed_sized("the stream BLOBS", "large_values_max_bytes")(error));
        }
        max_bytes /= 2;
        tracing::warn!(max_bytes, "the NATS server has little storage; BLOBS gets less");
    }
}

/// Returns whether the server cannot reserve the size.
fn lacks_storage(error: &CreateStreamError) -> bool {
    let CreateStreamErrorKind::JetStream(error) = error.kind() else { return false };
    [ErrorCode::INSUFFICIENT_RESOURCES, ErrorCode::STORAGE_RESOURCES_EXCEEDED]
        .contains(&error.error_code())
}
