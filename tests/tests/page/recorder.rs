//! Answers for the archive where there is none: each flow as its log tells it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull::Config};
use async_nats::jetstream::stream::Stream;
use concert_rules::engine::Limits;
use concert_rules::program::Program;
use concert_rules::provenance::{self, Flow, Source, Stored};
use concert_rules::source::SourceFile;
use concert_tests::binaries::root;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::process::Command;

struct Recorder {
    log: Stream,
    program: Program,
    rules: Value,
    /// The flows in the order in which they began, and what they are now.
    order: Vec<String>,
    flows: BTreeMap<String, Flow>,
}

/// Begins to listen and to answer.
pub(crate) async fn start(nats_url: &str, operator: &Path, binaries: &Path) -> anyhow::Result<()> {
    let seed = std::fs::read_to_string(operator)?;
    let seed = seed.lines().next().context("no key")?.to_owned();
    let nats = async_nats::ConnectOptions::with_nkey(seed).connect(nats_url).await?;
    let concepts = files("concepts", "concept")?;
    let (program, _) =
        concert_rules::compile(&concepts, &files("syncs", "sync")?).map_err(|report| anyhow::anyhow!("{report}"))?;
    let mut recorder = Recorder {
        log: async_nats::jetstream::new(nats.clone())
            .get_stream("COMPLETIONS")
            .await?,
        program,
        rules: rules(binaries).await?,
        order: Vec::new(),
        flows: BTreeMap::new(),
    };
    let mut completions = nats.subscribe("done.>").await?;
    let mut queries = nats.subscribe("concept.Concert.*").await?;
    nats.flush().await?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(completion) = completions.next() => {
                    let flow = completion.subject.split('.').nth(1).unwrap_or_default();
                    if let Ok(Some(row)) = recorder.read(flow).await {
                        let notice = json!({ "flows": [row], "left_out": 0 }).to_string();
                        nats.publish("notice.flows", notice.into()).await.ok();
                    }
                }
                Some(query) = queries.next() => {
                    let Some(reply) = query.reply else { continue };
                    let name = query.subject.rsplit('.').next().unwrap_or_default();
                    let input: Value = serde_json::from_slice(&query.payload).unwrap_or_default();
                    let rows = recorder.answer(name, &input);
                    nats.publish(reply, json!({ "rows": rows }).to_string().into()).await.ok();
                }
                else => return,
            }
        }
    });
    Ok(())
}

fn files(dir: &str, extension: &str) -> anyhow::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join(dir))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(SourceFile::new(
                path.display().to_string(),
                std::fs::read_to_string(&path)?,
            ));
        }
    }
    Ok(files)
}

/// The row of `_rules`, from the files and from `concert graph`.
async fn rules(binaries: &Path) -> anyhow::Result<Value> {
    let graph = Command::new(binaries.join("concert"))
        .current_dir(root())
        .args(["graph", "--format", "svg"])
        .output()
        .await?;
    ensure!(graph.status.success(), "concert graph failed");
    let mut syncs = Vec::new();
    for file in ["auth.sync", "sessions.sync"] {
        let text = std::fs::read_to_string(root().join("syncs").join(file))?;
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let Some(name) = line.strip_prefix("sync ") else {
                continue;
            };
            let body: Vec<&str> = lines[number..]
                .iter()
                .take_while(|line| !line.starts_with("//"))
                .copied()
                .collect();
            let text = body.join("\n").trim_end().to_owned();
            let section = |from: &str, to: &str| -> Vec<String> {
                let after = text.split_once(&format!("\n{from}\n")).map_or("", |(_, after)| after);
                let within = after.split("\nwhere\n").next().unwrap_or_default();
                let within = within.split(&format!("\n{to}\n")).next().unwrap_or_default();
                let actions = within.lines().filter_map(|line| line.trim().split_once(" ("));
                actions
                    .map(|(action, _)| action.to_owned())
                    .filter(|action| action.contains('.'))
                    .collect()
            };
            syncs.push(json!({
                "name": name, "file": file, "line": number + 1, "text": text, "firings": 0,
                "when": section("when", "then"), "then": section("then", "else (error)"),
            }));
        }
    }
    let svg = String::from_utf8(graph.stdout)?;
    Ok(json!({ "version": "now", "syncs": syncs, "svg": svg, "since_us": 1_764_000_000_000_000_u64 }))
}

impl Recorder {
    /// Reads a flow again; its row in a list.
    async fn read(&mut self, flow: &str) -> anyhow::Result<Option<Value>> {
        let config = Config {
            filter_subject: format!("done.{flow}.>"),
            ack_policy: AckPolicy::None,
            ..Config::default()
        };
        let consumer = self.log.create_consumer(config).await?;
        let pending = usize::try_from(consumer.cached_info().num_pending)?;
        let mut messages = consumer.messages().await?.take(pending);
        let mut stored = Vec::new();
        while let Some(message) = messages.next().await {
            let message = message?;
            let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
            stored.push(Stored {
                seq: info.stream_sequence,
                time_us: u64::try_from(info.published.unix_timestamp_nanos() / 1000)?,
                subject: message.subject.to_string(),
                body: message.payload.to_vec(),
                traceparent: None,
            });
        }
        self.log.delete_consumer(&consumer.cached_info().name).await?;
        let told = provenance::flow(
            flow.parse()?,
            &stored,
            &self.program,
            &Limits::default(),
            &[],
            Source::Log,
        );
        let Some(told) = told else { return Ok(None) };
        let row = json!(told.summary());
        if self.flows.insert(flow.to_owned(), told).is_none() {
            self.order.push(flow.to_owned());
        }
        Ok(Some(row))
    }

    fn answer(&self, name: &str, input: &Value) -> Vec<Value> {
        match name {
            "_flow" => self
                .flows
                .get(input["flow"].as_str().unwrap_or_default())
                .map(|flow| json!(flow))
                .into_iter()
                .collect(),
            "_flows" => {
                let rows = self.order.iter().rev().filter_map(|flow| self.flows.get(flow));
                let rows = rows.map(|flow| json!(flow.summary()));
                let fits = |row: &Value| {
                    ["path", "outcome"]
                        .iter()
                        .all(|key| input.get(key).is_none_or(|value| row[*key] == *value))
                };
                rows.filter(fits).collect()
            }
            "_rules" => {
                let mut rules = self.rules.clone();
                for sync in rules["syncs"].as_array_mut().into_iter().flatten() {
                    let firings = self.flows.values().flat_map(|flow| &flow.firings);
                    sync["firings"] = json!(firings.filter(|firing| sync["name"] == firing.sync).count());
                }
                vec![rules]
            }
            _ => vec![json!({
                "dead": [], "dead_count": 0, "failed_last_hour": 1, "faults_last_hour": 0, "slow": [],
                "lag": [{ "stream": "COMPLETIONS", "consumer": "routers", "pending": 0, "ack_pending": 0 }],
            })],
        }
    }
}
