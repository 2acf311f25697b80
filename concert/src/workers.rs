//! The workers that are compiled into the program.

use std::collections::BTreeSet;

use anyhow::ensure;
use concert_lang::concept;
use concert_lang::program::Program;
use concert_lang::source::SourceFile;
use concert_runtime::keys::Purpose;
use concert_runtime::process::Shutdown;
use concert_wire::REQUESTING;
use concert_worker::store::StoreArgs;
use concert_worker::{Options, Worker};

use crate::config::Settings;
use crate::output;

/// Start options of a worker.
pub(crate) fn options(
    worker: &Worker,
    settings: &Settings,
    store: StoreArgs,
    shutdown: Shutdown,
) -> Options {
    Options {
        store: Some(store),
        keys_dir: settings.app.keys_dir(),
        host: settings.limits(worker.concept()),
        log: settings.log.clone(),
        settings: settings.of_worker(worker.concept()),
        shutdown,
    }
}

/// The program does not contain a worker of this concept.
#[derive(Debug, thiserror::Error)]
#[error("this program has no worker of `{requested}`; it has {}", .known.join(", "))]
pub(crate) struct UnknownWorker {
    requested: String,
    known: Vec<String>,
}

/// Checks that every worker matches its spec, and that no concept has two workers.
pub(crate) fn check(workers: &[Worker]) -> anyhow::Result<()> {
    let mismatches = workers.iter().filter_map(|worker| worker.check().err());
    let mismatches: Vec<String> = mismatches.map(|mismatch| mismatch.to_string()).collect();
    ensure!(mismatches.is_empty(), mismatches.join("\n"));
    for (number, worker) in workers.iter().enumerate() {
        let has_other =
            workers.iter().skip(number + 1).any(|other| other.concept() == worker.concept());
        ensure!(
            !has_other,
            "the concept {} has two workers in this program; remove one",
            worker.concept()
        );
    }
    Ok(())
}

/// The worker of a concept; upper and lower case are equal.
pub(crate) fn named<'a>(workers: &'a [Worker], concept: &str) -> Result<&'a Worker, UnknownWorker> {
    let found = workers.iter().find(|worker| worker.concept().eq_ignore_ascii_case(concept));
    found.ok_or_else(|| UnknownWorker {
        requested: concept.to_owned(),
        known: workers.iter().map(|worker| worker.concept().to_owned()).collect(),
    })
}

/// Checks that the application's spec of a concept equals that of the compiled-in worker.
pub(crate) fn check_specs(
    workers: &[Worker],
    program: &Program,
    is_external: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    for worker in workers.iter().filter(|worker| !is_external(worker.concept())) {
        let name = worker.concept();
        let Some(spec) = program.concepts.iter().find(|spec| &*spec.name == name) else {
            continue;
        };
        let own = concept::parse_one(&format!("{name}.concept"), worker.spec())
            .map_err(anyhow::Error::msg)?;
        ensure!(
            spec.actions == own.actions && spec.queries == own.queries,
            "the application's spec of `{name}` differs from the spec of the worker in this \
             program; remove the application's file, or set `workers.{name}.external = true` if \
             another process runs the worker"
        );
    }
    Ok(())
}

/// The specs of the workers, as files.
pub(crate) fn specs(workers: &[Worker]) -> Vec<SourceFile> {
    let file =
        |worker: &Worker| SourceFile::new(format!("{}.concept", worker.concept()), worker.spec());
    workers.iter().map(file).collect()
}

/// The names of the workers' own keys.
pub(crate) fn own_keys(workers: &[Worker]) -> Vec<Purpose> {
    let keys = workers.iter().flat_map(Worker::keys);
    keys.map(|name| Purpose::Concept((*name).to_owned())).collect()
}

/// The keys that the worker of a concept reads. A worker in another program reads only the keys
/// that decrypt secrets.
pub(crate) fn keys_of(workers: &[Worker], concept: &str) -> Vec<Purpose> {
    let own = workers.iter().filter(|worker| worker.concept() == concept).cloned();
    let own: Vec<Worker> = own.collect();
    [vec![Purpose::Seal], own_keys(&own)].concat()
}

/// The concepts that the rules call or query and that have no worker in this program.
pub(crate) fn missing<'a>(workers: &[Worker], program: &'a Program) -> BTreeSet<&'a str> {
    let used = program.syncs.iter().flat_map(|rule| rule.concepts()).map(|concept| &**concept);
    used.filter(|concept| {
        *concept != REQUESTING && !workers.iter().any(|worker| worker.concept() == *concept)
    })
    .collect()
}

/// Warns of each used concept that has no worker in this program and is not `is_external`.
pub(crate) fn warn_of_missing(
    workers: &[Worker],
    program: &Program,
    is_external: impl Fn(&str) -> bool,
) {
    for concept in missing(workers, program).into_iter().filter(|concept| !is_external(concept)) {
        output::print_warning(&format!(
            "the rules use the concept `{concept}`, and this program has no worker for it; \
             requests that need it get 503 unless another process runs one (then set \
             `workers.{concept}.external = true`)"
        ));
    }
}

#[cfg(test)]
#[cfg(feature = "built-in")]
mod tests {
    use concert_lang::requesting;
    use concert_lang::source::SourceFile;
    use concert_worker::{Call, NoSettings, Start, StartError, Stop, concept};

    use super::*;
    use crate::built_in;

    #[test]
    fn spec_that_differs_from_that_of_the_worker_is_rejected() {
        let workers = built_in::workers();
        let own = concert_profile::worker().spec().to_owned();
        let checked = |spec: &str, is_external: bool| {
            let concepts = [SourceFile::new("Profile.concept", spec)];
            let (program, _) = concert_lang::compile(&concepts, &[]).unwrap();
            check_specs(&workers, &program, |_| is_external)
        };
        assert!(checked(&own, false).is_ok());
        let other = own.replace("deleteAccount", "closeAccount");
        assert_ne!(other, own);
        assert!(checked(&other, false).unwrap_err().to_string().contains("`Profile`"));
        assert!(checked(&other, true).is_ok());
    }

    #[test]
    fn concept_used_by_rules_without_a_worker_is_missing() {
        let spec = |name: &str| {
            let text = format!(
                "concept {name}\npurpose to be used\nactions\n    act (x: Flag) : (x: Flag)\nqueries\n    _ask (x: Flag) : (y: Flag)\n"
            );
            SourceFile::new(format!("{name}.concept"), text)
        };
        let concepts = [
            SourceFile::new(requesting::FILE_NAME, requesting::SPEC),
            SourceFile::new("Profile.concept", concert_profile::worker().spec()),
            spec("Called"),
            spec("Queried"),
            spec("Watched"),
            spec("Unused"),
        ];
        let rules = r#"
sync Asks
when
    Requesting.request (path: "/ask", x) : (request)
where
    Queried._ask (x) : (y)
    some Profile._getUserDetails (user: "a")
then
    Requesting.respond (request, y)

sync Calls
when
    Watched.act (x)
then
    Called.act (x)
"#;
        let (program, _) =
            concert_lang::compile(&concepts, &[SourceFile::new("a.sync", rules)]).unwrap();
        assert_eq!(missing(&built_in::workers(), &program), BTreeSet::from(["Called", "Queried"]));
    }

    #[test]
    fn worker_is_found_by_name_in_any_case() {
        let workers = built_in::workers();
        for name in ["Profile", "profile", "PROFILE"] {
            assert_eq!(named(&workers, name).unwrap().concept(), "Profile");
        }
        let unknown = named(&workers, "Profil").unwrap_err();
        let expected = "this program has no worker of `Profil`; it has Profile, Sessioning, ";
        assert!(unknown.to_string().starts_with(expected), "{unknown}");
    }

    #[test]
    fn worker_reads_its_own_keys_and_the_sealing_keys() {
        let workers = built_in::workers();
        assert_eq!(keys_of(&workers, "Profile"), [Purpose::Seal]);
        let session = Purpose::Concept("session".to_owned());
        assert_eq!(keys_of(&workers, "Sessioning"), [Purpose::Seal, session]);
        assert_eq!(keys_of(&workers, "Faulty"), [Purpose::Seal]);
    }

    struct Empty;

    impl Empty {
        async fn open(_: Start<NoSettings>) -> Result<Self, StartError> {
            Ok(Self)
        }

        async fn act(&self, _: Call<()>) -> Result<(), Stop> {
            Ok(())
        }
    }

    #[test]
    fn all_workers_that_do_not_match_their_specs_are_reported() {
        assert!(check(&built_in::workers()).is_ok());
        let spec = |name: &str| format!("concept {name}\npurpose none\nactions\n    act () : ()\n");
        let one = concept(spec("One")).open(Empty::open).build();
        let two = concept(spec("Two")).open(Empty::open).action("acts", Empty::act).build();
        let why = check(&[one, two]).unwrap_err().to_string();
        for part in ["One.concept", "`act`", "Two.concept", "`acts`"] {
            assert!(why.contains(part), "{part}: {why}");
        }
        let twice = [concert_profile::worker(), concert_profile::worker()];
        let why = check(&twice).unwrap_err().to_string();
        assert_eq!(why, "the concept Profile has two workers in this program; remove one");
    }
}
