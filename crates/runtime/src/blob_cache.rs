//! A file with chunks of large values that this process has read, so that it need not read them from
//! NATS again (ADR 38).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use concert_wire::large::blob::CHUNK_BYTES;

/// Length of a slot, in bytes: a chunk and its authentication tag, in whole pages.
const SLOT_BYTES: usize = CHUNK_BYTES + 4096;

/// Encrypted chunks in a file without a name, which the operating system deletes when the process
/// ends. Each chunk has a slot; when all slots are in use, a new chunk replaces the oldest.
#[derive(Debug)]
pub struct BlobCache {
    file: File,
    max_slots: usize,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Slot and length of each chunk, by its subject.
    chunks: HashMap<String, (usize, usize)>,
    /// The subject of the chunk in each slot. Slots are filled in turn.
    slots: Vec<String>,
    /// Number of chunks that were written.
    written: usize,
}

impl BlobCache {
    /// Creates the file, and the directory if it is missing. `None` if `max_bytes` is too small for
    /// one chunk.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn open(dir: &Path, max_bytes: u64) -> std::io::Result<Option<Self>> {
        let max_slots = usize::try_from(max_bytes / SLOT_BYTES as u64).unwrap_or(usize::MAX);
        if max_slots == 0 {
            return Ok(None);
        }
        std::fs::create_dir_all(dir)?;
        Ok(Some(Self { file: tempfile::tempfile_in(dir)?, max_slots, state: RwLock::default() }))
    }

    /// Reads a chunk. Blocks the thread.
    pub fn get(&self, subject: &str) -> Option<Vec<u8>> {
        // The lock is held meanwhile, so that no other chunk replaces this one.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let (slot, length) = *state.chunks.get(subject)?;
        let mut body = vec![0; length];
        self.file.read_exact_at(&mut body, offset(slot)).ok()?;
        Some(body)
    }

    /// Keeps a chunk. Blocks the thread. If it cannot be written, it is not kept.
    pub fn put(&self, subject: String, body: &[u8]) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if body.len() > SLOT_BYTES || state.chunks.contains_key(&subject) {
            return;
        }
        let slot = state.written % self.max_slots;
        let replaced = state.slots.get(slot).cloned().unwrap_or_default();
        state.chunks.remove(&replaced);
        if let Err(error) = self.file.write_all_at(body, offset(slot)) {
            tracing::debug!(%error, "cannot keep a chunk of a large value");
            return;
        }
        state.written += 1;
        state.chunks.insert(subject.clone(), (slot, body.len()));
        match state.slots.get_mut(slot) {
            Some(of) => *of = subject,
            None => state.slots.push(subject),
        }
    }
}

const fn offset(slot: usize) -> u64 {
    slot as u64 * SLOT_BYTES as u64
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn cache(slots: u64) -> Option<BlobCache> {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("a/b");
        let cache = BlobCache::open(&missing, slots * SLOT_BYTES as u64 + 7).unwrap();
        assert!(std::fs::read_dir(&missing).map_or(0, Iterator::count) == 0, "the file has a name");
        cache
    }

    #[test]
    fn new_chunk_replaces_the_oldest() {
        assert!(cache(0).is_none());
        let cache = cache(2).unwrap();
        let has = || ["a", "b", "c"].map(|of| cache.get(of));
        assert_eq!(has(), [None, None, None]);
        let bodies = [vec![1; CHUNK_BYTES + 16], vec![2; 40], vec![3; 50]];
        cache.put("a".to_owned(), &bodies[0]);
        cache.put("a".to_owned(), &bodies[0]);
        cache.put("b".to_owned(), &bodies[1]);
        assert_eq!(has(), [Some(bodies[0].clone()), Some(bodies[1].clone()), None]);
        cache.put("c".to_owned(), &bodies[2]);
        assert_eq!(has(), [None, Some(bodies[1].clone()), Some(bodies[2].clone())]);
        cache.put("a".to_owned(), &bodies[0]);
        assert_eq!(has(), [Some(bodies[0].clone()), None, Some(bodies[2].clone())]);
        assert!(cache.file.metadata().unwrap().size() <= 2 * SLOT_BYTES as u64);
    }

    #[test]
    fn chunk_that_cannot_be_written_is_not_kept() {
        let mut cache = cache(1).unwrap();
        cache.put("a".to_owned(), &[1; 40]);
        let readable = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        cache.file = readable;
        cache.put("b".to_owned(), &[2; 50]);
        // The slot may be damaged.
        assert_eq!([cache.get("a"), cache.get("b")], [None, None]);
    }

    #[test]
    fn oversized_chunk_is_not_kept() {
        let cache = cache(2).unwrap();
        cache.put("a".to_owned(), &vec![1; SLOT_BYTES + 1]);
        assert_eq!(cache.get("a"), None);
    }
}
