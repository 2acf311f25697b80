//! Storing and reading large values on a real NATS server.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use concert_local_servers::{FindOptions, NatsOptions, NatsServer, find_or_fetch};
use concert_runtime::blob_cache::BlobCache;
use concert_runtime::blobs::{Blobs, BlobsError};
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::streams::{self, LogLimits};
use concert_wire::large::blob::{BLOBS, BLOBS_SUBJECTS, CHUNK_BYTES, Manifest, Writer};
use concert_wire::large::{Place, Reference, VALUE_MAX_BYTES};

struct Server {
    bus: Bus,
    blobs: Blobs,
    // Stopped before its directory is deleted.
    _nats: NatsServer,
    dir: tempfile::TempDir,
}

const PLACE: Place = Place::new([7; 16]);

async fn server(large_values_max_bytes: i64) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let binaries = find_or_fetch(&FindOptions::of_user().unwrap(), &|_| {}).await.unwrap();
    let options = NatsOptions::new(dir.path());
    let nats = NatsServer::start(&binaries.nats_server, &options).await.unwrap();
    let bus = Bus::connect(&BusArgs::at(nats.url()), "test").await.unwrap();
    let limits = LogLimits { large_values_max_bytes, ..LogLimits::default() };
    streams::make_all(&bus, &[], &limits).await.unwrap();
    let blobs = Blobs::connect(&bus).await.unwrap();
    Server { bus, blobs, _nats: nats, dir }
}

impl Server {
    async fn messages(&self) -> u64 {
        self.bus.jetstream.get_stream(BLOBS).await.unwrap().cached_info().state.messages
    }
}

/// Disk space of all files below a directory, in bytes. Skips files that disappear.
fn disk_space(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_space(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// A text of this many bytes, with characters of several bytes across the borders of chunks.
fn text(bytes: usize) -> String {
    let mut text = "x".to_owned() + &"é\"\n€𝄆".repeat(bytes / 11 + 1);
    while text.len() > bytes {
        text.pop();
    }
    text + &"y".repeat(3)
}

#[tokio::test]
async fn stored_values_are_read_back_and_stored_once() {
    let server = server(0).await;
    for bytes in [40_000, CHUNK_BYTES - 3, CHUNK_BYTES, 3_000_000] {
        let text = text(bytes);
        let reference = server.blobs.store(PLACE, text.clone()).await.unwrap();
        assert_eq!(reference.bytes(), text.len() as u64);
        let stored = server.messages().await;
        assert_eq!(server.blobs.store(PLACE, text.clone()).await, Ok(reference));
        assert_eq!(server.messages().await, stored);
        assert_eq!(server.blobs.load(&reference).await.unwrap(), text);
    }
}

#[tokio::test]
async fn upload_in_small_parts_has_the_same_reference() {
    let server = server(0).await;
    let text = text(700_000);
    let mut upload = server.blobs.upload(PLACE);
    for part in text.as_bytes().chunks(7919) {
        upload.push(part).await.unwrap();
    }
    let reference = upload.finish().await.unwrap();
    assert_eq!(server.blobs.store(PLACE, text.clone()).await, Ok(reference));
    let elsewhere = server.blobs.store(Place::new([8; 16]), text.clone()).await.unwrap();
    assert!(elsewhere.is_same_value(&reference) && elsewhere != reference);
}

#[tokio::test]
async fn missing_parts_are_expired_and_altered_ones_are_broken() {
    let server = server(0).await;
    let reference = server.blobs.store(PLACE, text(600_000)).await.unwrap();
    let manifest = server.blobs.manifest(&reference).await.unwrap();
    let stream = server.bus.jetstream.get_stream(BLOBS).await.unwrap();
    let subject = manifest.chunk_subject(1).unwrap();
    stream.purge().filter(&subject).await.unwrap();
    assert_eq!(server.blobs.load(&reference).await, Err(BlobsError::Expired));
    server.bus.client.publish(subject, "not a chunk".into()).await.unwrap();
    server.bus.client.flush().await.unwrap();
    let broken = server.blobs.load(&reference).await;
    assert!(matches!(broken, Err(BlobsError::Broken(_))), "{broken:?}");
    stream.purge().await.unwrap();
    assert_eq!(server.blobs.load(&reference).await, Err(BlobsError::Expired));
}

#[tokio::test]
async fn cached_chunks_are_read_while_the_value_is_stored() {
    let server = server(0).await;
    let text = text(1_200_000);
    let reference = server.blobs.store(PLACE, text.clone()).await.unwrap();
    let cache = BlobCache::open(server.dir.path(), 4 * 1024 * 1024).unwrap().unwrap();
    let cached = server.blobs.clone().with_cache(cache);
    let without = server.blobs.clone();
    assert_eq!(cached.load(&reference).await.unwrap(), text);
    let manifest = server.blobs.manifest(&reference).await.unwrap();
    let stream = server.bus.jetstream.get_stream(BLOBS).await.unwrap();
    for index in 0..manifest.chunks() {
        stream.purge().filter(manifest.chunk_subject(index).unwrap()).await.unwrap();
    }
    assert_eq!(without.load(&reference).await, Err(BlobsError::Expired));
    assert_eq!(cached.load(&reference).await.unwrap(), text);
    stream.purge().filter(Manifest::subject(&reference)).await.unwrap();
    assert_eq!(cached.load(&reference).await, Err(BlobsError::Expired));
}

#[tokio::test]
async fn altered_cached_chunk_is_read_again() {
    let server = server(0).await;
    let text = text(600_000);
    let reference = server.blobs.store(PLACE, text.clone()).await.unwrap();
    let manifest = server.blobs.manifest(&reference).await.unwrap();
    let cache = BlobCache::open(server.dir.path(), 4 * 1024 * 1024).unwrap().unwrap();
    cache.put(manifest.chunk_subject(0).unwrap(), &[7; CHUNK_BYTES]);
    let cached = server.blobs.with_cache(cache);
    assert_eq!(cached.load(&reference).await.unwrap(), text);
}

#[tokio::test]
async fn expired_values_give_their_disk_space_back() {
    let server = server(0).await;
    let reference = server.blobs.store(PLACE, text(6_000_000)).await.unwrap();
    let full = disk_space(server.dir.path());
    assert!(full > 6_000_000, "{full}");
    let stream = server.bus.jetstream.get_stream(BLOBS).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    (config.max_age, config.duplicate_window) = (Duration::from_secs(1), Duration::from_secs(1));
    server.bus.jetstream.update_stream(config).await.unwrap();
    let given_back = async {
        while disk_space(server.dir.path()) > full / 10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), given_back).await.unwrap();
    assert_eq!(server.blobs.load(&reference).await, Err(BlobsError::Expired));
}

/// A literal `*` in a direct get finds a message of any place, in any account.
#[tokio::test]
async fn stranger_with_a_wildcard_cannot_decrypt() {
    let server = server(0).await;
    let text = text(100_000);
    server.blobs.store(PLACE, text.clone()).await.unwrap();
    let api = format!("$JS.API.DIRECT.GET.{BLOBS}.{BLOBS_SUBJECTS}");
    let found = server.bus.client.request(api, "".into()).await.unwrap();
    let subject = found.headers.unwrap().get("Nats-Subject").unwrap().to_string();
    // The subject of the last message, and a guess of the text at other places.
    let guess: Vec<Reference> = [Place::new([0; 16]), Place::new([8; 16])]
        .map(|place| {
            let mut writer = Writer::new(place);
            writer.chunk(text.as_bytes()).unwrap();
            writer.finish().1
        })
        .into();
    for reference in guess {
        assert_ne!(Manifest::subject(&reference), subject);
        assert!(Manifest::open(&reference, &found.payload).is_err());
    }
}

#[tokio::test]
async fn full_stream_and_too_large_values_are_errors_of_their_own() {
    let server = server(1_000_000).await;
    let first = text(400_000);
    let reference = server.blobs.store(PLACE, first.clone()).await.unwrap();
    assert_eq!(server.blobs.store(PLACE, text(3_000_000)).await, Err(BlobsError::Full));
    assert_eq!(server.blobs.store(PLACE, first.clone()).await, Ok(reference));
    assert_eq!(server.blobs.load(&reference).await.unwrap(), first);
    let too_large = "x".repeat(VALUE_MAX_BYTES as usize + 1);
    assert_eq!(server.blobs.store(PLACE, too_large).await, Err(BlobsError::TooLarge));
}
