//! What clients asked and what they were answered, and what is wrong.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

/// One request, from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which client.
    pub client: u64,
    /// The path.
    pub path: &'static str,
    /// The body, without secrets.
    pub about: String,
    /// The repeated requests of one key have the same.
    pub key: Option<String>,
    /// Milliseconds since the run began.
    pub began_ms: u128,
    /// Milliseconds since the run began.
    pub ended_ms: u128,
    /// The HTTP status; 0 when there was no answer.
    pub status: u16,
    /// The flow, if the answer names it.
    pub flow: Option<String>,
    /// The answer's body, or why there is none.
    pub answer: Value,
}

/// Everything that was seen from outside.
#[derive(Debug)]
pub struct History {
    began: Instant,
    requests: Mutex<Vec<Request>>,
    violations: Mutex<Vec<String>>,
    secrets: Mutex<Vec<String>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            requests: Mutex::default(),
            violations: Mutex::default(),
            secrets: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A violation often leads to many; these are shown.
const SHOWN: usize = 20;

impl History {
    /// Milliseconds since the run began.
    pub fn now_ms(&self) -> u128 {
        self.began.elapsed().as_millis()
    }

    /// Writes down a request that has ended.
    pub fn add(&self, request: Request) {
        lock(&self.requests).push(request);
    }

    /// Says that something is as it must not be.
    pub fn violated(&self, what: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < SHOWN {
            eprintln!("VIOLATION at {} ms: {what}", self.now_ms());
        }
        violations.push(what);
    }

    /// What is wrong so far.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// A text that must stand in no log file and in no stream.
    pub fn keep_secret(&self, secret: &str) {
        lock(&self.secrets).push(secret.to_owned());
    }

    /// Those texts.
    pub fn secrets(&self) -> Vec<String> {
        lock(&self.secrets).clone()
    }

    /// All requests.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// Writes all of it to a file, a line each.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for request in lock(&self.requests).iter() {
            let line = json!({
                "client": request.client, "path": request.path, "about": request.about, "key": request.key,
                "began_ms": u64::try_from(request.began_ms).unwrap_or(u64::MAX), "ended_ms": u64::try_from(request.ended_ms).unwrap_or(u64::MAX),
                "status": request.status, "flow": request.flow, "answer": request.answer,
            });
            writeln!(file, "{line}")?;
        }
        file.flush()
    }
}
