//! Writes flows down as they pass on the bus, and answers for the archive where there is none: enough of it for the flows of an account.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use concert_tests::binaries::root;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::process::Command;

/// Rule and causes of what was asked for.
type Asked = (String, Vec<String>);

#[derive(Default)]
struct Recorder {
    /// Of each action that was asked for: its flow, by whom, when.
    asked: BTreeMap<String, (Asked, u64)>,
    /// The flows, newest last: id and actions.
    flows: Vec<(String, Vec<Value>)>,
    /// Of each firing, its calls so far.
    calls: BTreeMap<String, Vec<String>>,
    rules: Value,
}

#[expect(clippy::disallowed_methods, reason = "nobody sets the clock of this test")]
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}

/// Begins to write down and to answer.
pub(crate) async fn start(nats_url: &str, operator: &Path, binaries: &Path) -> anyhow::Result<()> {
    let seed = std::fs::read_to_string(operator)?;
    let seed = seed.lines().next().context("no key")?.to_owned();
    let nats = async_nats::ConnectOptions::with_nkey(seed).connect(nats_url).await?;
    let recorder = Recorder {
        rules: rules(binaries).await?,
        ..Recorder::default()
    };
    let recorder = Arc::new(Mutex::new(recorder));
    let mut invocations = nats.subscribe("action.>").await?;
    let mut completions = nats.subscribe("done.>").await?;
    let mut queries = nats.subscribe("concept.Concert.*").await?;
    nats.flush().await?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(invocation) = invocations.next() => {
                    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
                    recorder.invoked(&invocation);
                }
                Some(completion) = completions.next() => {
                    let row = recorder.lock().unwrap_or_else(PoisonError::into_inner).completed(&completion);
                    if let Some(row) = row {
                        let notice = json!({ "flows": [row], "left_out": 0 }).to_string();
                        nats.publish("notice.flows", notice.into()).await.ok();
                    }
                }
                Some(query) = queries.next() => {
                    let Some(reply) = query.reply else { continue };
                    let name = query.subject.rsplit('.').next().unwrap_or_default();
                    let input: Value = serde_json::from_slice(&query.payload).unwrap_or_default();
                    let rows = recorder.lock().unwrap_or_else(PoisonError::into_inner).answer(name, &input);
                    nats.publish(reply, json!({ "rows": rows }).to_string().into()).await.ok();
                }
                else => return,
            }
        }
    });
    Ok(())
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
    Ok(json!({ "version": "now", "syncs": syncs, "svg": svg, "since_us": now_us() }))
}

/// What a rule waited for that did not come, where the test knows one.
const NEAR: [(&str, &str, &str, &str); 2] = [
    (
        "Profile.authenticate",
        "success",
        "RespondToFailedAuthentication",
        "error",
    ),
    (
        "Profile.authenticate",
        "refusal",
        "CreateSessionOnSuccessfulAuthentication",
        "user",
    ),
];

impl Recorder {
    fn invoked(&mut self, message: &async_nats::Message) {
        let tokens: Vec<&str> = message.subject.split('.').collect();
        let (Some(id), Some(headers)) = (tokens.get(3), &message.headers) else {
            return;
        };
        let text = |name| headers.get(name).map(ToString::to_string).unwrap_or_default();
        let causes = text("Concert-Cause").split(',').map(str::to_owned).collect();
        let asked = ((text("Concert-Sync"), causes), now_us());
        self.asked.entry((*id).to_owned()).or_insert(asked);
    }

    fn completed(&mut self, message: &async_nats::Message) -> Option<Value> {
        let tokens: Vec<&str> = message.subject.split('.').collect();
        let [_, flow, concept, action, id] = tokens.as_slice() else {
            return None;
        };
        if *concept == "Concert" {
            return None;
        }
        let body: Value = serde_json::from_slice(&message.payload).ok()?;
        let at = now_us();
        let asked = self.asked.remove(*id);
        let mut written = json!({
            "id": id, "concept": concept, "action": action, "state": "completed",
            "outcome": if body["output"].get("error").is_some() { "refusal" } else { "success" },
            "input": body["input"], "output": body["output"],
            "asked_us": asked.as_ref().map_or(at, |(_, at)| *at), "completed_us": at,
        });
        if let Some(((sync, causes), _)) = asked {
            let firing = format!("{sync} {}", causes.join(","));
            let calls = self.calls.entry(firing.clone()).or_default();
            if calls.is_empty() {
                let rules = self.rules["syncs"].as_array_mut()?;
                let rule = rules.iter_mut().find(|rule| rule["name"] == sync)?;
                rule["firings"] = json!(rule["firings"].as_u64().unwrap_or_default() + 1);
            }
            written["by"] = json!({ "firing": firing, "sync": sync, "frame": 0, "call": calls.len() });
            calls.push((*id).to_owned());
        }
        let at = match self.flows.iter().position(|(known, _)| known == flow) {
            Some(at) => at,
            None => {
                self.flows.push(((*flow).to_owned(), Vec::new()));
                self.flows.len() - 1
            }
        };
        let (_, actions) = &mut self.flows[at];
        written["seq"] = json!(actions.len() + 1);
        actions.push(written);
        Some(self.row(at))
    }

    fn answered(actions: &[Value]) -> (Value, Value, &'static str) {
        let Some(respond) = actions.iter().find(|action| action["action"] == "respond") else {
            return (Value::Null, Value::Null, "open");
        };
        let status = respond["input"].get("status").and_then(Value::as_u64).unwrap_or(200);
        let outcome = if status < 400 { "succeeded" } else { "failed" };
        (json!(status), respond["by"]["sync"].clone(), outcome)
    }

    fn row(&self, at: usize) -> Value {
        let (flow, actions) = &self.flows[at];
        let (status, by, outcome) = Self::answered(actions);
        let (first, last) = (&actions[0], &actions[actions.len() - 1]);
        let took = last["completed_us"].as_u64().unwrap_or_default() - first["asked_us"].as_u64().unwrap_or_default();
        json!({
            "flow": flow, "path": first["input"]["path"], "root": "Requesting.request", "began_us": first["asked_us"], "took_us": took,
            "outcome": outcome, "status": status, "answered_by": by, "actions": actions.len(), "cursor": at.to_string(),
            "error": actions.iter().find_map(|action| action["output"].get("error")),
        })
    }

    fn flow(&self, flow: &str) -> Option<Value> {
        let (_, actions) = self.flows.iter().find(|(known, _)| known == flow)?;
        let (status, by, outcome) = Self::answered(actions);
        let mut firings = BTreeMap::new();
        for action in actions.iter().filter(|action| action.get("by").is_some()) {
            let id = action["by"]["firing"].as_str()?;
            let causes: Vec<&str> = id.split_once(' ')?.1.split(',').collect();
            firings.entry(id.to_owned()).or_insert_with(|| {
                let frame = json!({ "bindings": {}, "ended": "then", "calls": self.calls.get(id) });
                json!({ "id": id, "sync": action["by"]["sync"], "causes": causes, "frames": [frame] })
            });
        }
        let near: Vec<Value> = actions.iter().flat_map(near_misses).collect();
        let matched = json!([{ "pattern": 0, "action": actions[0]["id"] }]);
        let near: Vec<Value> = near
            .into_iter()
            .map(|mut miss| {
                miss["matched"] = matched.clone();
                miss
            })
            .collect();
        Some(json!({
            "flow": flow, "path": actions[0]["input"]["path"], "root": actions[0]["id"], "root_kind": "request",
            "began_us": actions[0]["asked_us"], "ended_us": actions[actions.len() - 1]["completed_us"],
            "outcome": outcome, "status": status, "answered_by": by, "rules": "now", "source": "log", "truncated": false,
            "actions": actions, "firings": firings.into_values().collect::<Vec<_>>(), "near_misses": near,
        }))
    }

    fn answer(&self, name: &str, input: &Value) -> Vec<Value> {
        match name {
            "_flow" => self
                .flow(input["flow"].as_str().unwrap_or_default())
                .into_iter()
                .collect(),
            "_flows" => {
                let rows = (0..self.flows.len()).rev().map(|at| self.row(at));
                let fits = |row: &Value| {
                    ["path", "outcome"]
                        .iter()
                        .all(|key| input.get(key).is_none_or(|value| row[*key] == *value))
                };
                rows.filter(fits).collect()
            }
            "_rules" => vec![self.rules.clone()],
            _ => vec![json!({
                "dead": [], "dead_count": 0, "failed_last_hour": 1, "faults_last_hour": 0, "slow": [],
                "lag": [{ "stream": "COMPLETIONS", "consumer": "routers", "pending": 0, "ack_pending": 0 }],
            })],
        }
    }
}

fn near_misses(action: &Value) -> Vec<Value> {
    let name = format!(
        "{}.{}",
        action["concept"].as_str().unwrap_or_default(),
        action["action"].as_str().unwrap_or_default()
    );
    let near = NEAR
        .iter()
        .filter(|(near, outcome, ..)| *near == name && action["outcome"] == *outcome);
    near.map(|(_, _, sync, key)| {
        let error = action["output"]["error"].as_str().map(|error| format!("; it failed with `error`: “{error}”"));
        let why = format!("the output has no `{key}`{}", error.unwrap_or_default());
        let text = format!("{name} () : ({key})");
        json!({ "sync": sync, "failed": { "pattern": 1, "text": text, "action": action["id"], "key": key, "why": why } })
    })
    .collect()
}
