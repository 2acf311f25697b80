//! The requests and responses of the clients, and the violations.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

/// A request from start to end.
#[derive(Debug, Clone)]
pub struct Request {
    /// The client's number.
    pub client: u64,
    /// The URL path.
    pub path: &'static str,
    /// The body, without secrets.
    pub about: String,
    /// The idempotency key; repetitions have the same.
    pub key: Option<String>,
    /// Milliseconds since the run began.
    pub began_ms: u128,
    /// Milliseconds since the run began.
    pub ended_ms: u128,
    /// The HTTP status; 0 if there was no response.
    pub status: u16,
    /// The flow, if the response names it.
    pub flow: Option<String>,
    /// The response's body, or the reason why it is missing.
    pub answer: Value,
}

/// The history of a run.
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

/// Maximum number of printed violations, because one often causes many.
const SHOWN: usize = 20;

impl History {
    /// Milliseconds since the run began.
    pub fn now_ms(&self) -> u128 {
        self.began.elapsed().as_millis()
    }

    /// Records a finished request.
    pub fn add(&self, request: Request) {
        lock(&self.requests).push(request);
    }

    /// Records a violation.
    pub fn violated(&self, what: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < SHOWN {
            eprintln!("VIOLATION at {} ms: {what}", self.now_ms());
        }
        violations.push(what);
    }

    /// The violations so far.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// Registers a secret that must not appear in any log file or stream.
    pub fn keep_secret(&self, secret: &str) {
        lock(&self.secrets).push(secret.to_owned());
    }

    /// The registered secrets.
    pub fn secrets(&self) -> Vec<String> {
        lock(&self.secrets).clone()
    }

    /// All requests.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// Writes the history to a file, one line per request.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for request in lock(&self.requests).iter() {
            let line = json!({
                "client": request.client, "path": request.path, "about": request.about,
                "key": request.key,
                "began_ms": u64::try_from(request.began_ms).unwrap_or(u64::MAX),
                "ended_ms": u64::try_from(request.ended_ms).unwrap_or(u64::MAX),
                "status": request.status, "flow": request.flow, "answer": request.answer,
            });
            writeln!(file, "{line}")?;
        }
        file.flush()
    }
}
