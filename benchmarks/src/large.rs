//! Large values: logins during uploads of books, and a list of books compared with a file of the
//! same size.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::args::BenchArgs;
use crate::http::{Answer, Connection};
use crate::load::{self, Until};
use crate::measurement::{Measurement, median};
use crate::process::Memory;
use crate::scenario::{PASSWORD, Scenarios, logins};
use crate::stack::{BenchStack, Extras};

/// Concurrent logins.
const LOGINS: usize = 2;
/// Concurrent uploads.
const UPLOADS: usize = 10;
/// Bytes of a book as base64, in the library that is listed.
const BOOK_BYTES: usize = 3_000_000;
/// Number of times that the list and the file are read in turn.
const ROUNDS: usize = 5;
/// The file, in the directory of static files.
const FILE: &str = "library.json";
const UPLOAD: &str = "/api/Library/createDocument";
const LIST: &str = "/api/Library/_getDocumentsInLibrary";

/// The result of the run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Large {
    /// Size of an upload, in MiB before base64.
    upload_mib: u8,
    /// Completed uploads while logins ran.
    uploads: u64,
    /// Bytes of uploads, per second.
    upload_mb_per_second: f64,
    alone: Measurement,
    during_uploads: Measurement,
    memory_after_uploads: Vec<Memory>,
    /// Size of the list, in megabytes.
    list_mb: f64,
    /// Medians, in seconds.
    list_s: f64,
    file_s: f64,
    /// Median of the ratios of each round.
    ratio: f64,
    memory_after_lists: Vec<Memory>,
}

/// Measures a separate stack.
pub(crate) async fn run(
    args: &BenchArgs,
    time: Duration,
    progress: &impl Fn(&str),
) -> anyhow::Result<Large> {
    let dir = tempfile::tempdir()?;
    let files = dir.path().display().to_string();
    let extras = Extras::with_env(&[
        ("CONCERT_HTTP__STATIC", &files),
        // All uploads come from one address.
        ("CONCERT_HTTP__CLIENT_LARGE_VALUES_PERCENT", "100"),
        // A debug build needs a second of CPU for 2 MB.
        ("CONCERT_HTTP__DEADLINE_MS", "300000"),
        ("CONCERT_WORKERS__REQUEST_TIMEOUT_MS", "300000"),
    ]);
    let stack = BenchStack::start_with(args, &extras).await?;
    let measured = measure(args, &stack, dir.path(), time, progress).await;
    stack.stop().await;
    measured
}

async fn measure(
    args: &BenchArgs,
    stack: &BenchStack,
    files: &Path,
    time: Duration,
    progress: &impl Fn(&str),
) -> anyhow::Result<Large> {
    Scenarios::prepare(stack).await?;
    let address = stack.address();
    let login = async |name| {
        let load = load::run(vec![address], LOGINS, Until::Time(time), logins()).await?;
        anyhow::Ok(Measurement::new(name, LOGINS, &load.latency_us, load.took))
    };
    login("warm-up").await?;
    progress("logins alone");
    let alone = login("logins alone").await?;
    progress(&format!("logins during {UPLOADS} uploads"));
    let reader = Reader::sign_up(address, "uploads").await?;
    let content: Arc<str> = base64(usize::from(args.upload_mib) * 1024 * 1024 / 3 * 4).into();
    let done = Arc::new(AtomicU64::new(0));
    let mut uploads = JoinSet::new();
    let began = Instant::now();
    for number in 0..UPLOADS {
        let (reader, content, done) = (reader.clone(), content.clone(), done.clone());
        uploads.spawn(async move {
            for repeat in 0_u64.. {
                reader.upload(&format!("Book {number} {repeat}"), &content).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let during = async {
        let during = login("logins during uploads").await?;
        // At least one of each client.
        while done.load(Ordering::Relaxed) < UPLOADS as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(during)
    };
    let during_uploads = tokio::select! {
        during = during => during?,
        // Uploads end only with an error.
        Some(failed) = uploads.join_next() => return Err(failed?.err().context("an upload ended")?),
    };
    let (uploaded, seconds) = (done.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
    uploads.shutdown().await;
    let memory_after_uploads = stack.processes();

    progress(&format!("list of {} books", args.books));
    let reader = Reader::sign_up(address, "list").await?;
    let content = base64(BOOK_BYTES);
    let names: Vec<String> = (0..args.books).map(|number| format!("Book {number}")).collect();
    stream::iter(&names)
        .map(|name| reader.upload(name, &content))
        .buffer_unordered(2)
        .try_collect::<Vec<()>>()
        .await?;
    let (list_mb, rounds) = read_list(&reader, files).await?;
    let median_of = |value: fn(&(f64, f64)) -> f64| median(rounds.iter().map(value).collect());
    Ok(Large {
        upload_mib: args.upload_mib,
        uploads: uploaded,
        upload_mb_per_second: uploaded as f64 * content_mb(args.upload_mib) / seconds,
        alone,
        during_uploads,
        memory_after_uploads,
        list_mb,
        list_s: median_of(|(list, _)| *list),
        file_s: median_of(|(_, file)| *file),
        ratio: median_of(|(list, file)| list / file),
        memory_after_lists: stack.processes(),
    })
}

/// Reads the list and a file with the same bytes in turn. Returns the size in megabytes, and the
/// times of each round in seconds.
async fn read_list(reader: &Reader, files: &Path) -> anyhow::Result<(f64, Vec<(f64, f64)>)> {
    let mut connection = Connection::open(reader.address).await?;
    let body = json!({ "library": reader.library, "session": reader.session }).to_string();
    let list = connection.request("POST", LIST, &[&body]).await?;
    ensure!(list.status == 200, "{LIST} returned {}", list.status);
    std::fs::write(files.join(FILE), &list.body)?;
    let file = format!("/{FILE}");
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let mut times = [0.0; 2];
        // Each goes first equally often.
        for which in [round % 2, (round + 1) % 2] {
            let began = Instant::now();
            let read = match which {
                0 => connection.download("POST", LIST, &body).await?,
                _ => connection.download("GET", &file, "").await?,
            };
            ensure!(read == list.body.len(), "got {read} bytes instead of {}", list.body.len());
            if let Some(time) = times.get_mut(which) {
                *time = began.elapsed().as_secs_f64();
            }
        }
        rounds.push(times.into());
    }
    // The first round warms up.
    rounds.remove(0);
    Ok((list.body.len() as f64 / 1e6, rounds))
}

/// A user with a library.
#[derive(Clone)]
struct Reader {
    address: SocketAddr,
    library: String,
    session: String,
}

impl Reader {
    async fn sign_up(address: SocketAddr, username: &str) -> anyhow::Result<Self> {
        let credentials = json!({ "username": username, "password": PASSWORD });
        let made = post(address, "/api/Profile/createAccount", &credentials.to_string()).await?;
        let session = post(address, "/api/auth/login", &credentials.to_string()).await?;
        let text = |value: &Value, key: &str| {
            let text = value.get(key).and_then(Value::as_str).map(str::to_owned);
            text.with_context(|| format!("the response has no `{key}`"))
        };
        Ok(Self { address, library: text(&made, "library")?, session: text(&session, "session")? })
    }

    async fn upload(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let Self { address, library, session } = self;
        // Base64 needs no escapes.
        let before = format!(
            r#"{{"name":"{name}","library":"{library}","session":"{session}","epubContent":""#
        );
        let body = [&before, content, r#""}"#];
        let mut connection = Connection::open(*address).await?;
        let answer = connection.request("POST", UPLOAD, &body).await?;
        object(UPLOAD, &answer).map(drop)
    }
}

async fn post(address: SocketAddr, path: &str, body: &str) -> anyhow::Result<Value> {
    object(path, &Connection::open(address).await?.post(path, body).await?)
}

fn object(path: &str, answer: &Answer) -> anyhow::Result<Value> {
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == 200, "{path} returned {}: {text:.300}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// A text of the characters of base64.
fn base64(bytes: usize) -> String {
    const PART: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = PART.repeat(bytes / PART.len() + 1);
    text.truncate(bytes);
    text
}

fn content_mb(mib: u8) -> f64 {
    f64::from(mib) * 1024.0 * 1024.0 / 3.0 * 4.0 / 1e6
}

impl Large {
    pub(crate) fn write(&self, text: &mut impl std::fmt::Write) -> std::fmt::Result {
        let Self { alone, during_uploads: during, .. } = self;
        let memory = |memory: &[Memory]| {
            let shown = memory.iter().map(|of| format!("{} {:.0} MB", of.name, of.peak_mb));
            shown.collect::<Vec<_>>().join(", ")
        };
        writeln!(
            text,
            concat!(
                "\nLarge values; ten clients upload books of {} MiB:\n\n",
                "- logins alone: {:.1}/s, p50 {:.1} ms, p99 {:.1} ms\n",
                "- logins during uploads: {:.1}/s, p50 {:.1} ms, p99 {:.1} ms ({:.2} times)\n",
                "- {} uploads, {:.1} MB/s; peak memory: {}\n",
                "- list of {:.0} MB: {:.2} s; a file of the same size: {:.2} s; ratio {:.2}\n",
                "- peak memory after the lists: {}"
            ),
            self.upload_mib,
            alone.flows_per_second,
            alone.p50_ms,
            alone.p99_ms,
            during.flows_per_second,
            during.p50_ms,
            during.p99_ms,
            during.p99_ms / alone.p99_ms,
            self.uploads,
            self.upload_mb_per_second,
            memory(&self.memory_after_uploads),
            self.list_mb,
            self.list_s,
            self.file_s,
            self.ratio,
            memory(&self.memory_after_lists),
        )
    }
}
