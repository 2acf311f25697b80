//! Runs every command of docs/tutorial.md, and compares the results with the page. `.ci/run`
//! installs what it needs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use concert_tests::running::FREE_PORTS;
use concert_tests::shell::{is_as_shown, words};
use concert_tests::{binaries, http, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const TIMEOUT: Duration = Duration::from_secs(120);

/// A code block of the page.
struct Block {
    language: String,
    /// The last file of rules that the text before it names.
    file: Option<String>,
    text: String,
}

fn blocks() -> anyhow::Result<Vec<Block>> {
    let page = std::fs::read_to_string(binaries::root().join("docs/tutorial.md"))?;
    let (mut blocks, mut file): (Vec<Block>, _) = (Vec::new(), None);
    for (number, part) in page.split("```").enumerate() {
        if number % 2 == 0 {
            let spans = part.split('`').skip(1).step_by(2);
            file = spans.filter(|span| span.ends_with(".sync")).last().map(str::to_owned);
            continue;
        }
        let (language, text) = part.split_once('\n').context("a language")?;
        blocks.push(Block {
            language: language.to_owned(),
            file: file.clone(),
            text: text.replace("\\\n", " "),
        });
    }
    Ok(blocks)
}

/// The reader of the page.
struct Reader {
    dir: TempDir,
    /// The current directory.
    at: PathBuf,
    dev: Option<Child>,
    /// Output of the last command.
    printed: String,
    /// A note and a flow, which the page abbreviates.
    note: String,
    flow: String,
}

impl Reader {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let at = dir.path().to_owned();
        let (printed, note, flow) = (String::new(), String::new(), String::new());
        Ok(Self { dir, at, dev: None, printed, note, flow })
    }

    /// A shell command, on free ports.
    async fn shell(&self, line: &str) -> anyhow::Result<Command> {
        let programs = binaries::dir().await?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&path));
        let mut command = binaries::command(Path::new("sh"));
        command.current_dir(&self.at).args(["-c", &format!("exec {line}")]).envs(FREE_PORTS);
        command.env("PATH", std::env::join_paths(dirs)?);
        if let Ok(address) = self.address(&self.at.join(".concert")) {
            command.env("CONCERT_API", format!("http://{address}/api"));
        }
        Ok(command)
    }

    fn address(&self, data_dir: &Path) -> anyhow::Result<String> {
        let running: Value =
            serde_json::from_slice(&std::fs::read(data_dir.join("running.json"))?)?;
        Ok(running.get("http").and_then(Value::as_str).context("an address")?.to_owned())
    }

    /// Starts a command that runs until it is stopped.
    async fn start(&self, line: &str, data_dir: &Path) -> anyhow::Result<Child> {
        let child = self.shell(line).await?.stdout(Stdio::null()).spawn()?;
        until("requests are answered", TIMEOUT, async || Ok(self.address(data_dir).ok())).await?;
        Ok(child)
    }

    async fn stop(&self, mut child: Child, signal: Signal) -> anyhow::Result<()> {
        binaries::signal(&child, signal)?;
        ensure!(tokio::time::timeout(TIMEOUT, child.wait()).await??.success());
        Ok(())
    }

    /// Sends the request of a `curl` line, until the response is as the page shows.
    async fn curl(&mut self, line: &str, shown: &str) -> anyhow::Result<()> {
        let words = words(line, &[])?;
        let [_, _, url, _, _, _, body] = &*words else { bail!("unsupported: {line}") };
        let path = url.strip_prefix("http://127.0.0.1:8000").context("another address")?;
        let shown = serde_json::from_str(&self.filled(shown))?;
        let body = serde_json::from_str(body)?;
        let mut last = Value::Null;
        let answered = until(line, TIMEOUT, async || {
            let address = self.address(&self.at.join(".concert"))?.parse()?;
            last = http::post(address, path, &body).await?.body;
            Ok(is_as_shown(&shown, &last).then(|| last.clone()))
        });
        let answer = answered.await.with_context(|| last.to_string())?;
        if let Some(note) = answer.get("note").and_then(Value::as_str) {
            note.clone_into(&mut self.note);
        }
        Ok(())
    }

    /// Replaces abbreviations that are known.
    fn filled(&self, line: &str) -> String {
        match self.note.is_empty() {
            true => line.to_owned(),
            false => line.replace("c53c…", &self.note).replace("01a2…", &self.flow),
        }
    }

    /// Runs a line. `fails` if the page shows an error.
    async fn run(&mut self, line: &str, fails: bool) -> anyhow::Result<()> {
        if let Some(dir) = line.strip_prefix("cd ") {
            self.at.push(dir);
        } else if line == "concert dev" {
            self.dev = Some(self.start(line, &self.at.join(".concert")).await?);
        } else if let Some(rest) = line.strip_prefix("concert up ") {
            let data_dir = self.dir.path().join("lib");
            let rest = rest.replace("/var/lib/notes", &data_dir.display().to_string());
            let line = format!("concert up {}", rest.replace("0.0.0.0:8000", "127.0.0.1:0"));
            let up = self.start(&line, &data_dir).await?;
            let address = self.address(&data_dir)?.parse()?;
            let found = http::post(address, "/api/note/find", &json!({ "writer": "ada" })).await?;
            ensure!(found.status == 200, "{found:?}");
            self.stop(up, Signal::TERM).await?;
        } else {
            if line.starts_with("concert dev --start")
                && let Some(dev) = self.dev.take()
            {
                self.stop(dev, Signal::INT).await?;
            }
            let done = self.shell(line).await?.output().await?;
            let [out, err] = [done.stdout, done.stderr].map(String::from_utf8);
            self.printed = format!("{}{}", out?, err?);
            ensure!(done.status.success() != fails, "{line}: {}", self.printed);
        }
        Ok(())
    }

    /// Runs `concert flows` until the archive lists a flow.
    async fn flows(&mut self, line: &str) -> anyhow::Result<()> {
        let found = until("a flow is listed", TIMEOUT, async || {
            self.run(line, false).await?;
            let mut ids = self.printed.split_whitespace().filter(|word| word.len() == 36);
            Ok(ids.next_back().map(str::to_owned))
        });
        self.flow = found.await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tutorial_commands_work_as_documented() -> anyhow::Result<()> {
    let mut reader = Reader::new()?;
    let blocks = blocks()?;
    let mut counts = [0; 4];
    for (number, block) in blocks.iter().enumerate() {
        let is_error = blocks.get(number + 1).is_some_and(|next| next.language == "text");
        let mut lines = block.text.lines().filter(|line| !line.is_empty());
        match block.language.as_str() {
            "sync" => {
                counts[0] += 1;
                let file = block.file.as_ref().context("a file")?;
                std::fs::write(reader.at.join(file), &block.text)?;
            }
            "text" => {
                counts[1] += 1;
                ensure!(reader.printed.contains(&block.text), "{}", reader.printed);
            }
            "sh" => {
                while let Some(line) = lines.next() {
                    // The programs of the test are built already.
                    if line.starts_with("cargo install") {
                        continue;
                    }
                    let line = reader.filled(line);
                    if line.starts_with("curl") {
                        counts[2] += 1;
                        let shown = lines.next().and_then(|line| line.strip_prefix("# "));
                        reader.curl(&line, shown.context("a response")?).await?;
                        continue;
                    }
                    counts[3] += 1;
                    match line.starts_with("concert flows") {
                        true => reader.flows(&line).await?,
                        false => reader.run(&line, is_error).await?,
                    }
                }
            }
            // A rule of the template, and the unit of systemd.
            _ => {
                let is_unit = block.language == "ini";
                let command = "concert up --listen 0.0.0.0:8000 --sync-interval always";
                let rules = reader.at.join("syncs/note.sync");
                ensure!(is_unit || std::fs::read_to_string(rules)?.contains(&block.text));
                ensure!(!is_unit || block.text.contains(command));
            }
        }
    }
    assert_eq!(counts, [2, 1, 5, 14], "a block was skipped");
    Ok(())
}
