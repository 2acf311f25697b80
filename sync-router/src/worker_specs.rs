//! Compares the specs that the workers announce with those of the rules, so that a difference is
//! known before a request meets it. Paths that need such a worker get 503 with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use concert_analysis::graph;
use concert_lang::program::Program;
use concert_lang::spec::ConceptSpec;
use concert_runtime::bus::Bus;
use concert_runtime::service::{self, Instance};
use concert_wire::REQUESTING;
use futures_util::future::join_all;
use tokio::time::Instant;

/// Time in which the instances of a worker respond to a ping.
const PING_TIMEOUT: Duration = Duration::from_millis(300);

/// Reason why a concept's worker cannot serve the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    /// No instance has announced itself since the rules became active.
    Missing,
    /// All instances announce another spec.
    OtherSpec,
}

impl Problem {
    fn text(self, concept: &str) -> String {
        match self {
            Self::Missing => format!(
                "the concept `{concept}` has no worker; start one with `concert worker {concept}`, \
                 or set `workers.{concept}.command`. If one is running, its log says why it is not \
                 ready"
            ),
            Self::OtherSpec => format!(
                "the worker of `{concept}` has another spec than the rules; update the older one"
            ),
        }
    }
}

/// What is known about the workers of the active rules.
#[derive(Default)]
struct Known {
    /// Version of the rules, and when it was first checked.
    rules: Option<(String, Instant)>,
    /// Concepts and hashes of specs that a worker has announced. A worker that is down for a while
    /// stays confirmed: its queue keeps the invocations.
    confirmed: BTreeSet<(Arc<str>, String)>,
    problems: BTreeMap<Arc<str>, Problem>,
}

impl Known {
    /// Returns whether a missing worker may still be starting.
    fn is_starting(&mut self, version: &str, grace: Duration) -> bool {
        let since = match &self.rules {
            Some((known, since)) if known == version => *since,
            _ => {
                let now = Instant::now();
                self.rules = Some((version.to_owned(), now));
                now
            }
        };
        since.elapsed() < grace
    }

    /// Judges the instances of a concept. An instance without a spec in its metadata matches: it
    /// implements an earlier version of the protocol.
    fn judge(
        &mut self,
        concept: &Arc<str>,
        hash: String,
        found: &[Instance],
        is_starting: bool,
    ) -> Option<Problem> {
        let key = (concept.clone(), hash);
        if found.iter().any(|instance| instance.spec().is_none_or(|spec| *spec == key.1)) {
            self.confirmed.insert(key);
            return None;
        }
        if !found.is_empty() {
            self.confirmed.remove(&key);
            return Some(Problem::OtherSpec);
        }
        (!is_starting && !self.confirmed.contains(&key)).then_some(Problem::Missing)
    }
}

/// Checks the workers of the active rules.
#[derive(Clone)]
pub(crate) struct WorkerSpecs {
    bus: Bus,
    /// Time in which a worker must announce itself; zero disables the checks.
    grace: Duration,
    known: Arc<Mutex<Known>>,
}

impl WorkerSpecs {
    pub(crate) fn new(bus: Bus, grace: Duration) -> Self {
        Self { bus, grace, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The specs of the concepts that these rules use, each with the instances of its worker.
    async fn instances<'a>(&self, program: &'a Program) -> Vec<(&'a ConceptSpec, Vec<Instance>)> {
        let used: BTreeSet<&Arc<str>> =
            program.syncs.iter().flat_map(|sync| sync.concepts()).collect();
        let specs = program.concepts.iter();
        let specs = specs.filter(|spec| used.contains(&spec.name) && &*spec.name != REQUESTING);
        let bus = &self.bus;
        let found = specs.map(|spec| async move {
            (spec, service::instances(bus, &spec.name, PING_TIMEOUT).await)
        });
        join_all(found).await
    }

    /// The reasons why workers cannot serve these rules now, without a grace period.
    pub(crate) async fn missing(&self, program: &Program) -> Vec<String> {
        let found = self.instances(program).await;
        let problem = |(spec, found): &(&ConceptSpec, Vec<Instance>)| {
            let problem = Known::default().judge(&spec.name, spec.hash(), found, false)?;
            Some(problem.text(&spec.name))
        };
        found.iter().filter_map(problem).collect()
    }

    /// Checks the workers that these rules need. Returns the paths that cannot be served, with the
    /// reasons.
    pub(crate) async fn check(&self, program: &Program) -> BTreeMap<String, String> {
        if self.grace.is_zero() {
            return BTreeMap::new();
        }
        let found = self.instances(program).await;
        let mut known = self.known();
        let is_starting = known.is_starting(&program.version, self.grace);
        let problems: BTreeMap<Arc<str>, Problem> = found
            .into_iter()
            .filter_map(|(spec, found)| {
                let problem = known.judge(&spec.name, spec.hash(), &found, is_starting)?;
                Some((spec.name.clone(), problem))
            })
            .collect();
        report(&known.problems, &problems);
        known.problems.clone_from(&problems);
        unavailable(program, &problems)
    }
}

/// Logs the changes.
fn report(before: &BTreeMap<Arc<str>, Problem>, now: &BTreeMap<Arc<str>, Problem>) {
    for (concept, problem) in now.iter().filter(|(name, new)| before.get(*name) != Some(*new)) {
        let why = problem.text(concept);
        tracing::warn!(%concept, "{why}; until then, requests that need it get 503");
    }
    for concept in before.keys().filter(|name| !now.contains_key(*name)) {
        tracing::info!(%concept, "the worker serves the rules");
    }
}

fn unavailable(
    program: &Program,
    problems: &BTreeMap<Arc<str>, Problem>,
) -> BTreeMap<String, String> {
    if problems.is_empty() {
        return BTreeMap::new();
    }
    let of_path = |path: &String| {
        let needed = graph::concepts_of_path(program, path);
        let whys = problems.iter().filter(|(concept, _)| needed.contains(*concept));
        let whys: Vec<String> = whys.map(|(concept, problem)| problem.text(concept)).collect();
        (!whys.is_empty()).then(|| (path.clone(), whys.join("; ")))
    };
    program.routes.routes.keys().filter_map(of_path).collect()
}

#[cfg(test)]
mod tests {
    use concert_lang::source::SourceFile;

    use super::*;

    fn instance(spec: Option<&str>) -> Instance {
        let metadata = spec.map(|spec| [("concert-spec", spec)]);
        let metadata = metadata.map(|metadata| serde_json::json!(BTreeMap::from(metadata)));
        serde_json::from_value(serde_json::json!({ "id": "i", "metadata": metadata })).unwrap()
    }

    #[test]
    fn worker_must_announce_the_spec_of_the_rules_once() {
        let concept: Arc<str> = "Sky".into();
        let mut known = Known::default();
        let (ours, other, silent) =
            (instance(Some("ours")), instance(Some("other")), instance(None));
        for (found, is_starting, expected) in [
            (vec![], true, None),
            (vec![], false, Some(Problem::Missing)),
            (vec![other.clone()], true, Some(Problem::OtherSpec)),
            (vec![other.clone(), ours], false, None),
            // The worker was seen before, and is down.
            (vec![], false, None),
            (vec![other], false, Some(Problem::OtherSpec)),
            (vec![], false, Some(Problem::Missing)),
            (vec![silent], false, None),
        ] {
            let judged = known.judge(&concept, "ours".to_owned(), &found, is_starting);
            assert_eq!(judged, expected, "{found:?} {is_starting}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn grace_begins_again_with_each_version() {
        let mut known = Known::default();
        let grace = Duration::from_secs(10);
        assert!(known.is_starting("a", grace));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(!known.is_starting("a", grace));
        assert!(known.is_starting("b", grace));
    }

    #[test]
    fn only_paths_that_need_the_concept_are_unavailable() {
        let spec = |name: &str| {
            let text = format!(
                "concept {name}\npurpose none\nactions\n    act () : ()\nqueries\n    _ask () : (y: Flag)\n"
            );
            SourceFile::new(format!("{name}.concept"), text)
        };
        let requesting = concert_lang::requesting::source();
        let rules = r#"
sync Plain
when
    Requesting.request (path: "/plain") : (request)
then
    Requesting.respond (request)

sync Calls
when
    Requesting.request (path: "/calls") : (request)
then
    Called.act ()
    Requesting.respond (request)

sync Later
when
    Called.act ()
where
    some Queried._ask ()
then
    Called.act ()
"#;
        let concepts = [requesting, spec("Called"), spec("Queried")];
        let rules = [SourceFile::new("a.sync", rules)];
        let (program, _) = concert_lang::compile(&concepts, &rules).unwrap();
        let of = |problems: &[(&str, Problem)]| {
            let problems = problems.iter().map(|(name, problem)| (Arc::from(*name), *problem));
            unavailable(&program, &problems.collect())
        };
        assert_eq!(of(&[]), BTreeMap::new());
        let marked = of(&[("Queried", Problem::Missing), ("Other", Problem::OtherSpec)]);
        assert_eq!(marked.keys().collect::<Vec<_>>(), ["/calls"]);
        assert!(marked["/calls"].contains("`Queried` has no worker"), "{marked:?}");
    }
}
