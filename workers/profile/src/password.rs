//! Password hashing: argon2id on a fixed number of threads, which reuse their memory.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use concert_worker::{Secret, Stop, lower_priority, metrics, part, retry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::bcrypt_hash;
use crate::settings::Settings;

/// Reason why passwords cannot be hashed.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The cost is out of argon2's range.
    #[error(
        "the cost of argon2id is out of range: {0}; correct argon2_memory_kib or argon2_passes"
    )]
    Cost(argon2::Error),
    /// A hash cannot be computed.
    #[error("cannot compute a hash: {0}")]
    Hash(String),
    /// A thread cannot be started.
    #[error("cannot start a hashing thread: {0}; lower hash_threads")]
    Thread(std::io::Error),
}

/// Result of verifying a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right.
    Right,
    /// The password is right, and its hash is outdated: it was computed with another cost or by
    /// bcrypt, or from the password as typed. This is the new hash.
    Outdated(String),
    /// The password is wrong.
    Wrong,
}

enum Job {
    Hash(Secret, oneshot::Sender<Result<String, String>>),
    Verify(Secret, String, oneshot::Sender<Result<Verdict, String>>),
}

/// Nice value of the threads: a hash uses a CPU for many milliseconds, other work for microseconds.
const NICE: i32 = 5;
/// Name under which the wait for a thread and the hash itself are timed.
const HASHING: &str = "argon2id";
/// The length of a hash, in bytes.
const HASH_BYTES: usize = 32;
/// Time without a password after which the threads release the memory of their hashes: 19 MiB each
/// with the default cost.
const MEMORY_KEPT: Duration = Duration::from_secs(10);

/// Metrics of the pools in this process.
struct HashMetrics {
    threads: Gauge,
    busy: Gauge,
    waiting: Gauge,
    hashes: Counter,
}

static METRICS: LazyLock<HashMetrics> = LazyLock::new(|| {
    metrics::register(|registry| {
        let [threads, busy, waiting] = [Gauge::default(), Gauge::default(), Gauge::default()];
        let hashes = Counter::default();
        registry.register("concert_hash_threads", "Threads that hash passwords", threads.clone());
        registry.register(
            "concert_hash_threads_busy",
            "Threads that are hashing a password",
            busy.clone(),
        );
        registry.register(
            "concert_hash_queue",
            "Passwords that wait for a thread",
            waiting.clone(),
        );
        registry.register("concert_hashes", "Computed password hashes", hashes.clone());
        HashMetrics { threads, busy, waiting, hashes }
    })
});

/// A pool of hashing threads.
#[derive(Debug, Clone)]
pub struct HashPool {
    jobs: SyncSender<Job>,
    /// Used instead of the hash of a missing user, so that both take the same time.
    dummy: Arc<str>,
    /// Number of computed hashes.
    made: Arc<AtomicU64>,
    bcrypt_cost: Arc<AtomicU32>,
}

impl HashPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn start(settings: &Settings) -> Result<Self, PoolError> {
        let params =
            Params::new(settings.argon2_memory_kib, settings.argon2_passes, 1, Some(HASH_BYTES))
                .map_err(PoolError::Cost)?;
        let threads = match settings.hash_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let made = Arc::new(AtomicU64::new(0));
        let (jobs, waiting) = sync_channel(settings.hash_queue.max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let bcrypt_cost = Arc::new(AtomicU32::new(0));
        let mut hasher = Hasher::new(params, Arc::default(), bcrypt_cost.clone());
        // No client can type this password. The hash is not counted.
        let dummy = hasher.hash(Salt::generate().as_ref()).map_err(PoolError::Hash)?;
        hasher.made = made.clone();
        for number in 0..threads {
            let (waiting, hasher) = (waiting.clone(), hasher.clone());
            let thread = std::thread::Builder::new().name(format!("argon2-{number}"));
            thread.spawn(move || work(&waiting, &hasher)).map_err(PoolError::Thread)?;
            METRICS.threads.inc();
        }
        Ok(Self { jobs, dummy: dummy.into(), made, bcrypt_cost })
    }

    /// From now on, a wrong password also takes the time of this hash, if it is one of bcrypt.
    /// Otherwise the time of a failed login would reveal the accounts that have such hashes.
    pub(crate) fn expect(&self, hash: &str) {
        if let Some(cost) = bcrypt_hash::cost(hash) {
            self.bcrypt_cost.fetch_max(cost, Ordering::Relaxed);
        }
    }

    /// Hashes a new password, as a PHC string.
    ///
    /// # Errors
    /// The pool is full.
    pub async fn hash(&self, password: Secret) -> Result<String, Stop> {
        let (reply, answer) = oneshot::channel();
        self.submit(Job::Hash(password, reply))?;
        part(HASHING, answer).await.map_err(retry)?.map_err(retry)
    }

    /// Verifies a password. If there is no hash, returns [`Verdict::Wrong`] after the same work.
    ///
    /// # Errors
    /// The pool is full, or the hash cannot be read.
    pub async fn verify(&self, password: Secret, hash: Option<&str>) -> Result<Verdict, Stop> {
        let (reply, answer) = oneshot::channel();
        self.submit(Job::Verify(password, hash.unwrap_or(&self.dummy).to_owned(), reply))?;
        let verdict = part(HASHING, answer).await.map_err(retry)?.map_err(retry)?;
        Ok(if hash.is_some() { verdict } else { Verdict::Wrong })
    }

    /// Number of computed hashes.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn submit(&self, job: Job) -> Result<(), Stop> {
        // Counted before sending, because a thread may take the job immediately.
        METRICS.waiting.inc();
        self.jobs.try_send(job).map_err(|error| {
            METRICS.waiting.dec();
            match error {
                TrySendError::Full(_) => retry("the queue of the hashing threads is full"),
                TrySendError::Disconnected(_) => retry("the hashing threads have exited"),
            }
        })
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, hasher: &Hasher) {
    lower_priority(NICE);
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(MEMORY_KEPT);
        let job = match job {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                hasher.release_memory();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        METRICS.waiting.dec();
        METRICS.busy.inc();
        // The caller may have been cancelled.
        match job {
            Job::Hash(password, reply) => {
                drop(reply.send(hasher.hash(password.expose().as_bytes())))
            }
            Job::Verify(password, hash, reply) => {
                drop(reply.send(hasher.verify(password.expose().as_bytes(), &hash)))
            }
        }
        METRICS.busy.dec();
    }
}

#[derive(Clone)]
struct Hasher {
    params: Params,
    /// Memory of hashes that no thread uses. The threads share it, because only one of them notices
    /// that no password arrives.
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
    /// Counts the computed hashes.
    made: Arc<AtomicU64>,
    /// The highest cost of a bcrypt hash that was seen; 0 if there was none.
    bcrypt_cost: Arc<AtomicU32>,
}

impl Hasher {
    fn new(params: Params, made: Arc<AtomicU64>, bcrypt_cost: Arc<AtomicU32>) -> Self {
        Self { params, memory: Arc::default(), made, bcrypt_cost }
    }

    fn unused_memory(&self) -> MutexGuard<'_, Vec<Vec<Block>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release_memory(&self) {
        self.unused_memory().clear();
    }

    fn hash(&self, password: &[u8]) -> Result<String, String> {
        let salt = Salt::generate();
        let output = self.run(&self.params, password, &salt)?;
        let hash = PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.params).map_err(|error| error.to_string())?,
            salt: Some(salt),
            hash: Some(Output::new(&output).map_err(|error| error.to_string())?),
        };
        Ok(hash.to_string())
    }

    /// A wrong password costs the same whatever its hash: argon2id, and bcrypt if there are such
    /// hashes.
    fn verify(&self, password: &[u8], hash: &str) -> Result<Verdict, String> {
        if let Some(cost) = bcrypt_hash::cost(hash) {
            self.bcrypt_cost.fetch_max(cost, Ordering::Relaxed);
            self.count();
            let (is_right, new) = (bcrypt_hash::verify(password, hash)?, self.hash(password)?);
            return Ok(if is_right { Verdict::Outdated(new) } else { Verdict::Wrong });
        }
        let hash =
            PasswordHash::new(hash).map_err(|error| format!("invalid stored hash: {error}"))?;
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
            return Err("a stored hash is incomplete".to_owned());
        };
        if hash.algorithm != ARGON2ID_IDENT {
            return Err(format!("a stored hash has the unknown algorithm {}", hash.algorithm));
        }
        let params = Params::try_from(&hash).map_err(|error| error.to_string())?;
        let actual = self.run(&params, password, salt)?;
        // `Output` compares in constant time.
        if Output::new(&actual).map_err(|error| error.to_string())? != *expected {
            let cost = self.bcrypt_cost.load(Ordering::Relaxed);
            if cost > 0 {
                self.count();
                bcrypt_hash::take_as_long(password, cost);
            }
            return Ok(Verdict::Wrong);
        }
        let same_cost = (params.m_cost(), params.t_cost(), params.p_cost())
            == (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        if same_cost { Ok(Verdict::Right) } else { self.hash(password).map(Verdict::Outdated) }
    }

    fn count(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
        METRICS.hashes.inc();
    }

    fn run(
        &self,
        params: &Params,
        password: &[u8],
        salt: &Salt,
    ) -> Result<[u8; HASH_BYTES], String> {
        let mut memory = self.unused_memory().pop().unwrap_or_default();
        if memory.len() < params.block_count() {
            memory.resize(params.block_count(), Block::default());
        }
        self.count();
        let mut output = [0; HASH_BYTES];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let hashed =
            argon2.hash_password_into_with_memory(password, salt, &mut output, &mut memory[..]);
        self.unused_memory().push(memory);
        hashed.map_err(|error| error.to_string())?;
        Ok(output)
    }
}

/// Hashes per second of this machine at the default cost, without other load: the upper limit for
/// logins.
pub fn raw_hashes_per_second(time: Duration) -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let hashes: u64 = std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| count_hashes(began, time))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    hashes as f64 / began.elapsed().as_secs_f64()
}

fn count_hashes(began: Instant, time: Duration) -> u64 {
    let settings = Settings::default();
    let cost = (settings.argon2_memory_kib, settings.argon2_passes);
    let Ok(params) = Params::new(cost.0, cost.1, 1, Some(HASH_BYTES)) else {
        return 0;
    };
    let hasher = Hasher::new(params, Arc::default(), Arc::default());
    let mut hashes = 0;
    while began.elapsed() < time {
        hashes += u64::from(hasher.hash(b"correct horse battery").is_ok());
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(memory_kib: u32) -> Settings {
        Settings {
            argon2_memory_kib: memory_kib,
            argon2_passes: 1,
            hash_threads: 1,
            hash_queue: 4,
            ..Settings::default()
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_password_is_accepted() {
        let pool = HashPool::start(&settings(64)).unwrap();
        let hash = pool.hash(secret("correct horse")).await.unwrap();
        assert_ne!(hash, pool.hash(secret("correct horse")).await.unwrap());
        assert_eq!(pool.verify(secret("correct horse"), Some(&hash)).await, Ok(Verdict::Right));
        assert_eq!(pool.verify(secret("Correct horse"), Some(&hash)).await, Ok(Verdict::Wrong));
        let before = pool.made();
        assert_eq!(pool.verify(secret("no user's password"), None).await, Ok(Verdict::Wrong));
        assert_eq!(pool.made(), before + 1, "a missing user costs as much");
    }

    #[tokio::test]
    async fn hash_of_another_cost_is_accepted_and_renewed() {
        let old =
            HashPool::start(&settings(64)).unwrap().hash(secret("correct horse")).await.unwrap();
        let pool = HashPool::start(&settings(128)).unwrap();
        let Verdict::Outdated(new) =
            pool.verify(secret("correct horse"), Some(&old)).await.unwrap()
        else {
            panic!("{old}")
        };
        assert!(new.contains("m=128,t=1,p=1"), "{new}");
        assert_eq!(pool.verify(secret("correct horse"), Some(&new)).await, Ok(Verdict::Right));
        assert_eq!(pool.verify(secret("wrong horse"), Some(&old)).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn bcrypt_hash_is_renewed_and_wrong_passwords_take_as_long_without_one() {
        let pool = HashPool::start(&settings(64)).unwrap();
        let new = pool.hash(secret("correct horse")).await.unwrap();
        let verify = async |password: &str, hash| {
            let before = pool.made();
            (pool.verify(secret(password), hash).await.unwrap(), pool.made() - before)
        };
        assert_eq!(verify("wrong horse", Some(&new)).await, (Verdict::Wrong, 1));
        let old = bcrypt::hash("correct horse", 4).unwrap();
        let (verdict, _) = verify("correct horse", Some(&old)).await;
        let Verdict::Outdated(renewed) = verdict else { panic!("{verdict:?}") };
        assert_eq!(verify("correct horse", Some(&renewed)).await, (Verdict::Right, 1));
        for hash in [Some(old.as_str()), Some(&new), None] {
            assert_eq!(verify("wrong horse", hash).await, (Verdict::Wrong, 2), "{hash:?}");
        }
        assert_eq!(
            bcrypt_hash::cost("$2b$17$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            None
        );
    }

    #[test]
    fn memory_of_hashes_is_reused_and_can_be_released() {
        let params = Params::new(64, 1, 1, Some(HASH_BYTES)).unwrap();
        let hasher = Hasher::new(params, Arc::default(), Arc::default());
        let other = hasher.clone();
        let unused = || hasher.unused_memory().iter().map(Vec::len).collect::<Vec<_>>();
        for round in 0..2 {
            assert!(unused().is_empty(), "{round}");
            let hash = hasher.hash(b"correct horse").unwrap();
            assert_eq!(other.verify(b"correct horse", &hash), Ok(Verdict::Right));
            assert_eq!(unused(), [64], "{round}");
            other.release_memory();
        }
    }

    #[tokio::test]
    async fn default_cost_is_the_owasp_minimum() {
        let pool = HashPool::start(&Settings::default()).unwrap();
        let hash = pool.hash(secret("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }
}
