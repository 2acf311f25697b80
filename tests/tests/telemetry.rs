//! Traces and metrics of a real system: one trace for each flow, exact counts, and no personal
//! data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use concert_tests::{Part, System, binaries, http};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PASSWORD: &str = "correct horse battery";
/// Not hexadecimal, so that it cannot occur in an ID.
const NAME: &str = "lovelace";

/// An OTLP receiver over HTTP.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    raw: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn start() -> anyhow::Result<(Self, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let collector = Self::default();
        let traces = post(Self::take).with_state(collector.clone());
        let router = Router::new().route("/v1/traces", traces);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((collector, url))
    }

    /// Receives one export in protobuf.
    async fn take(State(taking): State<Self>, body: Bytes) -> StatusCode {
        taking.raw.lock().unwrap_or_else(PoisonError::into_inner).extend(&body);
        let Ok(request) = ExportTraceServiceRequest::decode(body) else {
            return StatusCode::BAD_REQUEST;
        };
        let spans = request
            .resource_spans
            .into_iter()
            .flat_map(|of| of.scope_spans)
            .flat_map(|of| of.spans);
        taking.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        StatusCode::OK
    }

    /// Waits for this many spans of a trace and returns them.
    async fn trace(&self, system: &System, trace: &str, count: usize) -> anyhow::Result<Vec<Span>> {
        system
            .until("the spans are exported", async |_| {
                let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
                let of_trace: Vec<Span> =
                    spans.iter().filter(|span| hex(&span.trace_id) == trace).cloned().collect();
                Ok((of_trace.len() >= count).then_some(of_trace))
            })
            .await
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Pairs of parent and child span names.
fn tree(spans: &[Span]) -> BTreeSet<(String, String)> {
    let names: BTreeMap<&[u8], &str> =
        spans.iter().map(|span| (span.span_id.as_slice(), span.name.as_str())).collect();
    let name = |id: &[u8]| names.get(id).map_or_else(|| hex(id), |name| (*name).to_owned());
    spans.iter().map(|span| (name(&span.parent_span_id), span.name.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_is_one_trace_and_each_action_is_counted_once() -> anyhow::Result<()> {
    let (collector, url) = Collector::start().await?;
    let mut system = System::with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())]).await?;
    system.start_part(Part::Archive)?;
    system.account(NAME, PASSWORD).await?;
    let login = format!("http://{}/api/auth/login", system.address());
    let client = http::client()?;
    let ask = |password: &str, traceparent: Option<&str>| {
        let request = client.post(&login).json(&json!({ "username": NAME, "password": password }));
        match traceparent {
            Some(traceparent) => request.header("traceparent", traceparent),
            None => request,
        }
    };
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = ask(PASSWORD, Some(parent)).send().await?;
    assert_eq!(answer.status(), 200);
    let spans = collector.trace(&system, "0af7651916cd43dd8448eb211c80319c", 18).await?;
    let expected = [
        ("b7ad6b7169203331", "POST /auth/login"),
        ("POST /auth/login", "HandleLoginRequest"),
        ("HandleLoginRequest", "Profile.authenticate"),
        ("Profile.authenticate", "CreateSessionOnSuccessfulAuthentication"),
        ("CreateSessionOnSuccessfulAuthentication", "Sessioning.create"),
        ("CreateSessionOnSuccessfulAuthentication", "Requesting.respond"),
        ("Profile.authenticate", "Profile.authenticate work"),
        ("Profile.authenticate work", "mongodb.find"),
        ("Profile.authenticate work", "argon2id"),
        ("Profile.authenticate work", "nats.get"),
        ("Profile.authenticate work", "mongodb.update"),
        ("Sessioning.create", "Sessioning.create work"),
        ("Sessioning.create work", "nats.get"),
        ("Sessioning.create work", "mongodb.find"),
        ("Sessioning.create work", "mongodb.count"),
        ("Sessioning.create work", "mongodb.insert"),
        ("Sessioning.create work", "mongodb.update"),
    ];
    let expected: BTreeSet<_> =
        expected.map(|(parent, name)| (parent.to_owned(), name.to_owned())).into();
    assert_eq!(tree(&spans), expected);
    let root = spans.iter().find(|span| span.name == "POST /auth/login").context("the root")?;
    for span in &spans {
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?}");
    }

    // Without a valid parent, the trace ID is the flow ID. An unsampled trace is not exported, and
    // an invalid parent is ignored.
    let failed = ask("wrong horse battery", Some("00-nonsense")).send().await?;
    let flow = failed.headers()["concert-flow"].to_str()?.replace('-', "");
    let unsampled = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    assert_eq!(ask("wrong horse battery", Some(unsampled)).send().await?.status(), 401);
    let nobody = json!({ "session": "nobody's" });
    let logout = system.post("/auth/logout", &nobody).await?;
    let last = logout.headers["concert-flow"].to_str()?.replace('-', "");
    assert_eq!(collector.trace(&system, &flow, 12).await?.len(), 12);
    collector.trace(&system, &last, 7).await?;
    // A killed archive rereads unacknowledged messages; a span that is exported twice is identical.
    system.kill(Part::Archive).await?;
    system.start_part(Part::Archive)?;
    let again = system.post("/auth/logout", &nobody).await?;
    let again = again.headers["concert-flow"].to_str()?.replace('-', "");
    collector.trace(&system, &again, 7).await?;
    let spans = collector.spans.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut seen: BTreeMap<(Vec<u8>, Vec<u8>), Span> = BTreeMap::new();
    for span in spans {
        assert_ne!(hex(&span.trace_id), "1af7651916cd43dd8448eb211c80319c");
        if let Some(other) =
            seen.insert((span.trace_id.clone(), span.span_id.clone()), span.clone())
        {
            assert_eq!(other, span);
        }
    }
    let raw =
        String::from_utf8_lossy(&collector.raw.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned();
    for word in [NAME, "horse", "nobody's", "sealed:", "Invalid username"] {
        assert!(!raw.contains(word), "{word} is in a span");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_contains_queries_and_their_database_calls() -> anyhow::Result<()> {
    let (collector, url) = Collector::start().await?;
    let mut system = System::with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("CONCERT_TELEMETRY__METRICS_LISTEN", ":0"),
    ])
    .await?;
    system.start_part(Part::Archive)?;
    let archive = system.metrics_address(Part::Archive).await?;
    system.account(NAME, PASSWORD).await?;
    let session = system.login(NAME, PASSWORD).await?;
    let who = system.post("/auth/whoami", &json!({ "session": session })).await?;
    assert_eq!(who.body["username"], NAME);
    let flow = who.headers["concert-flow"].to_str()?;
    let spans = collector.trace(&system, &flow.replace('-', ""), 7).await?;
    let expected = [
        ("", "POST /auth/whoami"),
        ("POST /auth/whoami", "WhoAmI"),
        ("WhoAmI", "Sessioning._getUser"),
        ("Sessioning._getUser", "mongodb.find"),
        ("WhoAmI", "Profile._getUserDetails"),
        ("Profile._getUserDetails", "mongodb.find"),
        ("WhoAmI", "Requesting.respond"),
    ];
    let expected: BTreeSet<_> =
        expected.map(|(parent, name)| (parent.to_owned(), name.to_owned())).into();
    assert_eq!(tree(&spans), expected);
    for span in &spans {
        let parent = spans.iter().find(|other| other.span_id == span.parent_span_id);
        let Some(parent) = parent else { continue };
        // The network time is not part of the worker's time. A query lies within its firing, and
        // its work within the query.
        assert!(span.start_time_unix_nano >= parent.start_time_unix_nano, "{span:?} {parent:?}");
        if span.name.contains("._") || span.name.starts_with("mongodb") {
            assert!(span.end_time_unix_nano <= parent.end_time_unix_nano, "{span:?} {parent:?}");
        }
    }
    let metrics = http::metrics(&archive).await?;
    let asked = r#"concert_query_seconds_count{concept="Sessioning",query="_getUser"}"#;
    assert_eq!(metrics.get(asked), Some(&1.0), "{metrics:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_events_exactly() -> anyhow::Result<()> {
    let mut system = System::with(&[("CONCERT_TELEMETRY__METRICS_LISTEN", "localhost:0")]).await?;
    system.start_part(Part::Archive)?;
    let archive = system.metrics_address(Part::Archive).await?;
    system.account("ada", PASSWORD).await?;
    for password in ["wrong horse battery", "another horse battery", PASSWORD] {
        system.post("/auth/login", &json!({ "username": "ada", "password": password })).await?;
    }
    for _ in 0..7 {
        system.post("/auth/logout", &json!({ "session": "nobody's" })).await?;
    }
    let logouts =
        r#"concert_actions_total{concept="Sessioning",action="delete",outcome="refusal"}"#;
    let metrics = system
        .until("all events are counted", async |_| {
            let metrics = http::metrics(&archive).await.unwrap_or_default();
            let logins = metrics
                .get(r#"concert_firings_total{sync="CreateSessionOnSuccessfulAuthentication"}"#);
            Ok((metrics.get(logouts) == Some(&7.0) && logins.is_some()).then_some(metrics))
        })
        .await?;
    for (name, expected) in [
        (
            r#"concert_actions_total{concept="Profile",action="authenticate",outcome="refusal"}"#,
            2.0,
        ),
        (
            r#"concert_actions_total{concept="Profile",action="authenticate",outcome="success"}"#,
            1.0,
        ),
        (
            r#"concert_actions_total{concept="Profile",action="createAccount",outcome="success"}"#,
            1.0,
        ),
        (r#"concert_actions_total{concept="Requesting",action="request",outcome="success"}"#, 11.0),
        (r#"concert_actions_total{concept="Requesting",action="respond",outcome="success"}"#, 11.0),
        (r#"concert_action_duration_seconds_count{concept="Sessioning",action="delete"}"#, 7.0),
        (r#"concert_action_queue_seconds_count{concept="Sessioning",action="delete"}"#, 7.0),
        (r#"concert_action_work_seconds_count{concept="Sessioning",action="delete"}"#, 7.0),
        // Seven logouts. The login reads the key of its token and the cutoff, and counts the
        // sessions of its user.
        (r#"concert_action_part_seconds_count{concept="Sessioning",part="mongodb.find"}"#, 9.0),
        (r#"concert_action_part_seconds_count{concept="Sessioning",part="mongodb.count"}"#, 1.0),
        // Three logins and an account.
        (r#"concert_action_part_seconds_count{concept="Profile",part="argon2id"}"#, 4.0),
        (r#"concert_firings_total{sync="RespondToFailedAuthentication"}"#, 2.0),
        (r#"concert_firings_total{sync="HandleLogoutRequest"}"#, 7.0),
        (
            r#"concert_flows_total{root="Requesting.request",path="/auth/logout",outcome="failed"}"#,
            7.0,
        ),
        (
            r#"concert_flows_total{root="Requesting.request",path="/auth/login",outcome="succeeded"}"#,
            1.0,
        ),
        ("concert_dead_letters_kept", 0.0),
        ("concert_spans_dropped_total", 0.0),
    ] {
        assert_eq!(metrics.get(name), Some(&expected), "{name}: {metrics:#?}");
    }
    let edge = http::metrics(&system.address().to_string()).await?;
    for (name, expected) in [
        (r#"concert_http_requests_total{path="/auth/login",status="401"}"#, 2.0),
        (r#"concert_http_requests_total{path="/auth/logout",status="404"}"#, 7.0),
        (r#"concert_http_request_duration_seconds_count{path="/auth/logout"}"#, 7.0),
        ("concert_http_requests_in_flight", 0.0),
    ] {
        assert_eq!(edge.get(name), Some(&expected), "{name}: {edge:#?}");
    }
    let metrics = system
        .until("the backlog is measured", async |_| {
            let metrics = http::metrics(&archive).await?;
            let lag =
                metrics.get(r#"concert_consumer_pending{stream="COMPLETIONS",consumer="routers"}"#);
            let dead_letters = metrics.get(r#"concert_dead_letters_total{concept="Profile"}"#);
            let used = metrics.get("concert_log_fill_ratio").is_some_and(|ratio| *ratio > 0.0);
            Ok((lag == Some(&0.0) && dead_letters == Some(&0.0) && used).then_some(metrics))
        })
        .await?;
    let profile = http::metrics(&system.metrics_address(Part::Profile).await?).await?;
    for (name, expected) in [
        (r#"concert_worker_deliveries_total{concept="Profile",redelivered="false"}"#, 4.0),
        (r#"concert_worker_attempts_total{concept="Profile",end="completed"}"#, 4.0),
        (r#"concert_worker_under_way{concept="Profile"}"#, 0.0),
        // Includes the placeholder hash for unknown names.
        ("concert_hashes_total", 5.0),
        ("concert_hash_threads_busy", 0.0),
        ("concert_hash_queue", 0.0),
    ] {
        assert_eq!(profile.get(name), Some(&expected), "{name}: {profile:#?}");
    }
    assert!(profile.get("concert_hash_threads").is_some_and(|threads| *threads >= 1.0));
    let router = http::metrics(&system.metrics_address(Part::Router).await?).await?;
    assert_eq!(router.get("concert_router_unacknowledged"), Some(&0.0), "{router:#?}");
    // Eleven requests, their effects, the records of two rules, and the rules themselves.
    let delivered = router.get(r#"concert_router_deliveries_total{redelivered="false"}"#);
    assert!(delivered.is_some_and(|count| *count > 33.0), "{router:#?}");
    // The dashboard uses only existing metrics, and the page documents all of them.
    let all: BTreeSet<String> = metrics
        .keys()
        .chain(edge.keys())
        .chain(profile.keys())
        .chain(router.keys())
        .map(|name| family(name))
        .collect();
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(
        binaries::root().join("deploy/grafana/concert.json"),
    )?)?;
    let mut shown = BTreeSet::new();
    let panels = dashboard["panels"].as_array().context("panels")?;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
    {
        let expression = target["expr"].as_str().context("an expression")?;
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        shown.extend(words.filter(|word| word.starts_with("concert_")).map(family));
    }
    assert!(shown.len() >= 8, "{shown:?}");
    assert_eq!(
        shown.difference(&all).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "shown but not exported"
    );
    let page = std::fs::read_to_string(binaries::root().join("docs/operations.md"))?;
    for name in &all {
        assert!(page.contains(&format!("`{name}")), "docs/operations.md does not mention {name}");
    }
    Ok(())
}

#[test]
fn files_mounted_by_compose_exist() -> anyhow::Result<()> {
    let mut mounted = 0;
    for file in ["compose.yaml", "compose.observability.yaml"] {
        let text = std::fs::read_to_string(binaries::root().join(file))?;
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("- ./")) {
            let path = line.split(':').next().unwrap_or_default();
            anyhow::ensure!(
                binaries::root().join(path).exists(),
                "{file} mounts {path}, which does not exist"
            );
            mounted += 1;
        }
    }
    anyhow::ensure!(mounted >= 5, "{mounted}");
    Ok(())
}

/// The name of a metric without its labels and the suffix of its kind.
fn family(name: &str) -> String {
    let name = name.split('{').next().unwrap_or(name);
    let kinds = ["_total", "_bucket", "_count", "_sum"];
    let bare = kinds.iter().find_map(|kind| name.strip_suffix(kind));
    bare.unwrap_or(name).to_owned()
}
