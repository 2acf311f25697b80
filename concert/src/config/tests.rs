use clap::Parser as _;
use serde_json::json;

use super::*;
use crate::{built_in, workers};

/// Test sources.
#[derive(Default)]
struct Given {
    file: &'static str,
    variables: Vec<(&'static str, &'static str)>,
    flags: Vec<Flag>,
}

fn load_with(command: Command, given: &Given) -> Result<Loaded, Problems> {
    let inputs = Inputs {
        root: PathBuf::new(),
        file: Some(("concert.toml".to_owned(), given.file.to_owned())),
        variables: given.variables.iter().map(|(name, text)| (name.into(), text.into())).collect(),
        flags: &given.flags,
    };
    load(command, &inputs, &built_in::workers())
}

fn file(text: &'static str) -> Given {
    Given { file: text, ..Given::default() }
}

fn variables(variables: &[(&'static str, &'static str)]) -> Given {
    Given { variables: variables.to_vec(), ..Given::default() }
}

fn set(settings: &[&str]) -> Given {
    Given {
        flags: settings.iter().map(|text| Flag::Set((*text).to_owned())).collect(),
        ..Given::default()
    }
}

fn problems(command: Command, given: &Given) -> Vec<String> {
    let problems = load_with(command, given).err().map(|problems| problems.0).unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

/// Value and source of a key, as `concert config show` prints them.
fn shown(command: Command, given: &Given, key: &str) -> (Value, String) {
    let rows = show::rows(command, &load_with(command, given).unwrap());
    let row = rows.into_iter().find(|row| row.key == key).unwrap();
    (row.value, row.source)
}

#[test]
fn descriptions_follow_the_settings_of_the_edge() {
    let given =
        file("[http]\nerrors = \"problem\"\nmisfit_status = 422\nheaders = [\"If-None-Match\"]\n");
    let http = load_with(Command::Rules, &given).unwrap().settings.http;
    assert_eq!(http.errors.errors, concert_wire::openapi::ErrorShape::Problem);
    assert_eq!(http.errors.misfit_status, 422);
    assert_eq!(http.headers.by_key().into_keys().collect::<Vec<_>>(), ["ifNoneMatch"]);
    let given = file("[http]\nmisfit_status = 410\n");
    let expected = "file concert.toml:2: http.misfit_status: one of 400, 422 is expected, not 410";
    assert_eq!(problems(Command::Up, &given), [expected]);
}

#[test]
fn precedence_is_flag_variable_file_default() {
    let mut given = Given::default();
    let check = |given: &Given, value: u64, source: &str| {
        assert_eq!(
            shown(Command::Up, given, "http.deadline_ms"),
            (json!(value), source.to_owned())
        );
    };
    check(&given, 15_000, "default");
    given.file = "[app]\nname = \"reader\"\n\n[http]\ndeadline_ms = 1\n";
    check(&given, 1, "file concert.toml:5");
    given.variables = vec![("CONCERT_DEADLINE_MS", "2")];
    check(&given, 2, "variable CONCERT_DEADLINE_MS");
    given.variables.push(("CONCERT_HTTP__DEADLINE_MS", "3"));
    check(&given, 3, "variable CONCERT_HTTP__DEADLINE_MS");
    given.flags = vec![Flag::Named("deadline-ms", "4".to_owned())];
    check(&given, 4, "flag --deadline-ms");
    given.flags.push(Flag::Set("http.deadline_ms=5".to_owned()));
    check(&given, 5, "flag --set");
}

#[test]
fn concert_variables_win_over_standard_variables() {
    let given = variables(&[
        ("NATS_URL", "nats://standard:4222"),
        ("OTEL_SDK_DISABLED", "true"),
        ("CONCERT_NATS__URL", "nats://ours:4222"),
    ]);
    let loaded = load_with(Command::Up, &given).unwrap();
    assert_eq!(loaded.settings.nats.url.as_deref(), Some("nats://ours:4222"));
    assert!(!loaded.settings.telemetry.traces.traces);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn variables_injected_by_kubernetes_are_ignored() {
    let given = variables(&[
        ("CONCERT_NATS_PORT", "tcp://10.96.0.1:4222"),
        ("CONCERT_MONGO_PORT", "tcp://10.96.0.2:27017"),
        ("CONCERT_NATS_SERVICE_HOST", "10.96.0.1"),
        ("CONCERT_NATS_PORT_4222_TCP_ADDR", "10.96.0.1"),
    ]);
    let loaded = load_with(Command::Up, &given).unwrap();
    assert_eq!((loaded.settings.nats.port, loaded.settings.mongodb.port), (4222, 27117));
    assert_eq!(loaded.warnings, []);
    let given = variables(&[("CONCERT_NATS_PORT", "4333")]);
    assert_eq!(load_with(Command::Up, &given).unwrap().settings.nats.port, 4333);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let given = variables(&[("CONCERT_HTTP__LISTEN", ""), ("CONCERT_PAGE", ""), ("NATS_URL", "")]);
    let settings = load_with(Command::Up, &given).unwrap().settings;
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:8000");
    assert_eq!((settings.console.enabled, settings.nats.url), (None, None));
}

#[test]
fn unknown_keys_are_errors_with_source_and_suggestion() {
    let given = Given {
        file: "[htp]\nlisten = \"[::1]:1\"\n[http]\nlistn = 1\nmetrics_listen = \"x\"\n[workers.Profile]\nsetings = 1\n",
        variables: vec![("CONCERT_HTTP__DEADLINE", "1"), ("CONCERT_HTTP_DEADLINE", "not ours")],
        flags: vec![Flag::Set("ruels.syncs=rules".to_owned())],
    };
    let expected = [
        "file concert.toml:1: unknown key `htp`; did you mean `http`?",
        "file concert.toml:4: unknown key `http.listn`; did you mean `http.listen`?",
        "file concert.toml:5: unknown key `http.metrics_listen`; did you mean `telemetry.metrics_listen`?",
        "file concert.toml:7: unknown key `workers.Profile.setings`; did you mean `workers.Profile.settings`?",
        "variable CONCERT_HTTP__DEADLINE: unknown key `http.deadline`; did you mean `http.deadline_ms`?",
        "flag --set: unknown key `ruels.syncs`; did you mean `rules.syncs`?",
    ];
    assert_eq!(problems(Command::Up, &given), expected);
    // Unknown keys are errors for every command.
    assert_eq!(problems(Command::Operator, &given), expected);
}

#[test]
fn all_invalid_values_are_reported_with_key_and_range() {
    let given = Given {
        file: "[http]\ndeadline_ms = 0\nlisten = \"nowhere\"\nbase = \"api/\"\ncors_origins = \"x\"\n\
               passthrough = { \"Profile.authenticate\" = \"\" }\nsession_cookie = { name = \"session\", key = \"s\" }\n\
               [nats]\nnkey = \"a\"\ncreds = \"b\"\n",
        variables: vec![("CONCERT_ROUTER__FLOWS", "many"), ("CONCERT_NATS__ISOLATE", "maybe")],
        flags: vec![Flag::Set("telemetry.log_format=yaml".to_owned())],
    };
    let expected = [
        "variable CONCERT_ROUTER__FLOWS: router.flows: a number from 1 to 1000000 is expected, not `many`",
        "variable CONCERT_NATS__ISOLATE: nats.isolate: true or false is expected, not `maybe`",
        "flag --set: telemetry.log_format: one of text, pretty, json is expected, not \"yaml\"",
        "file concert.toml:2: http.deadline_ms: a number from 1 to 86400000 is expected, not 0",
        "file concert.toml:5: http.cors_origins: a list of strings is expected, not \"x\"",
        "file concert.toml:4: http.base: a base must start with `/` and must not end with it, such as /api",
        "file concert.toml:3: http.listen: `nowhere` is not an address: the port is missing, as in `localhost:8000`",
        "file concert.toml:6: http.passthrough: an exposed action needs a reason: `\"Concept.action\" = \"reason\"`",
        "file concert.toml:7: http.session_cookie: the name must start with `__Host-`, and name and key must consist \
         of letters, digits, `-` and `_`",
        "nats.nkey and nats.creds exclude each other; remove one of them",
    ];
    assert_eq!(problems(Command::Up, &given), expected);
}

#[test]
fn a_command_ignores_values_that_it_does_not_use() {
    let given =
        file("[http]\ndeadline_ms = 0\nlisten = \"nowhere\"\n[nats]\nurl = \"nats://a:4222\"\n");
    assert_eq!(problems(Command::Up, &given).len(), 2);
    let loaded = load_with(Command::Operator, &given).unwrap();
    assert_eq!(loaded.settings.nats.url.as_deref(), Some("nats://a:4222"));
    assert_eq!(loaded.settings.http.limits.deadline_ms, 15_000);
}

#[test]
fn syntax_errors_are_reported_with_line_numbers() {
    let problems = problems(Command::Up, &file("[http\nlisten = 1\n\nbase =\n"));
    let lines: Vec<&str> =
        problems.iter().filter_map(|problem| problem.split(": ").next()).collect();
    assert!(lines.contains(&"file concert.toml:1"), "{problems:?}");
    assert!(lines.contains(&"file concert.toml:4"), "{problems:?}");
}

#[test]
fn worker_has_its_own_settings_and_inherits_limits() {
    let given = Given {
        file: "[workers]\nattempts = 3\nconcurrency = 7\n[workers.Profile]\nconcurrency = 9\n\
               settings = { password_words = [\"reader\"] }\n[workers.Annotation]\nexternal = true\n",
        variables: vec![
            ("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_PASSES", "1"),
            ("CONCERT_LOGIN_KNOWN_DAYS", "5"),
            ("CONCERT_PASSWORD_WORDS", "reader,books"),
        ],
        ..Given::default()
    };
    let settings = load_with(Command::Up, &given).unwrap().settings;
    let own =
        json!({ "argon2_passes": 1, "login_known_days": 5, "password_words": ["reader", "books"] });
    assert_eq!(settings.of_worker("Profile"), own);
    assert_eq!(settings.of_worker("Sessioning"), json!({}));
    let limits = |concept| {
        let limits = settings.limits(concept);
        (limits.worker_attempts, limits.worker_concurrency)
    };
    assert_eq!((limits("Profile"), limits("Sessioning")), ((3, 9), (3, 7)));
    assert!(settings.is_external("Annotation") && !settings.is_external("Profile"));
}

#[test]
fn worker_that_cannot_be_started_is_an_error_of_up() {
    let given = file(
        "[workers.Profil]\nsettings = {}\n[workers.Sessioning]\nsettings = { colour = 1 }\n\
         [workers.Text]\ncommand = [\"npx\"]\nexternal = true\n\
         [workers.Other]\nwatch = [\"a.ts\"]\n",
    );
    let problems = problems(Command::Up, &given);
    let starts = [
        "file concert.toml:9: workers.Other.watch: `watch` needs a `command`",
        "file concert.toml:8: no worker for the concept Other is compiled into this program; set",
        "file concert.toml:1: no worker for the concept Profil is compiled into this program; did you mean `Profile`?",
        "file concert.toml:4: workers.Sessioning.settings: `colour`: unknown field `colour`, expected one of `idle_minutes`, `max_minutes`",
        "file concert.toml:6: workers.Text.command: `command` and `external` exclude each other",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn service_ignores_workers_that_it_does_not_start() {
    let given = Given {
        file: "[workers.Sessioning]\nsettings = { colour = 1 }\n[workers.Text]\ncommand = [\"npx\"]\n",
        variables: vec![("CONCERT_WORKERS__BOOKMARK__SETTINGS__COLOUR", "red")],
        ..Given::default()
    };
    assert_eq!(problems(Command::HttpEdge, &given), Vec::<String>::new());
    let inputs = Inputs {
        root: PathBuf::new(),
        file: Some(("concert.toml".to_owned(), given.file.to_owned())),
        variables: given.variables.iter().map(|(name, text)| (name.into(), text.into())).collect(),
        flags: &[],
    };
    let workers = built_in::workers();
    let profile = workers::named(&workers, "Profile").unwrap();
    assert!(load(Command::Worker, &inputs, std::slice::from_ref(profile)).is_ok());
    let of_up = problems(Command::Up, &given);
    assert!(of_up.iter().any(|problem| problem.contains("the concept Bookmark")), "{of_up:?}");
}

#[test]
fn deprecated_names_still_work_and_warn_once() {
    let given = Given {
        variables: vec![
            ("CONCERT_LISTEN", "127.0.0.1:1"),
            ("CONCERT_NO_ARCHIVE", "YES"),
            ("CONCERT_PAGE", "off"),
        ],
        flags: vec![
            Flag::Named("cors-origin", "http://a".to_owned()),
            Flag::Named("cors-origin", "http://b,http://c".to_owned()),
            Flag::Named("passthrough", "Profile.authenticate=why".to_owned()),
            Flag::Named("passthrough", "Profile._getByUsername=as well".to_owned()),
            Flag::Named("session-cookie", "__Host-session=session".to_owned()),
            Flag::Named("session-cookie-ends", "/logout".to_owned()),
            Flag::Named("data-dir", "data".to_owned()),
        ],
        ..Given::default()
    };
    let loaded = load_with(Command::Up, &given).unwrap();
    let Settings { http, archive, console, app, .. } = &loaded.settings;
    assert_eq!(http.listen.to_string(), "127.0.0.1:1");
    assert_eq!(http.cors_origins, ["http://a", "http://b", "http://c"]);
    assert_eq!(http.passthrough.open().len(), 2);
    assert_eq!((archive.enabled, console.enabled), (false, Some(false)));
    assert_eq!(app.keys_dir(), Path::new("data/keys"));
    let cookie = serde_json::to_value(&http.cookies.session_cookie).unwrap();
    let expected = json!({
        "name": "__Host-session",
        "key": "session",
        "mode": "replace",
        "ends": ["/logout"],
    });
    assert_eq!(cookie, expected);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let of = |name: &str| warnings.iter().filter(|warning| warning.starts_with(name)).count();
    let once = [
        "CONCERT_LISTEN ",
        "CONCERT_NO_ARCHIVE ",
        "CONCERT_PAGE ",
        "--cors-origin ",
        "--passthrough ",
    ];
    assert_eq!(once.map(of), [1; 5], "{warnings:?}");
    assert_eq!(of("--data-dir"), 0);
    assert!(warnings.iter().any(|warning| warning.contains("CONCERT_HTTP__LISTEN")));
    // A command that does not use the setting prints no warning.
    assert_eq!(
        load_with(Command::Operator, &variables(&[("CONCERT_LISTEN", "x")])).unwrap().warnings,
        []
    );
}

#[test]
fn set_flag_can_set_every_key() {
    let given = set(&[
        "http.passthrough.Profile.authenticate=why",
        "workers.Profile.settings.hash_threads=2",
        "http.trusted_proxies=10.0.0.0/8, 192.0.2.7",
        "console.enabled=on",
    ]);
    let settings = load_with(Command::Up, &given).unwrap().settings;
    assert_eq!(settings.http.passthrough.open().len(), 1);
    assert_eq!(settings.of_worker("Profile"), json!({ "hash_threads": 2 }));
    assert_eq!(settings.http.clients.trusted_proxies.len(), 2);
    assert_eq!(settings.console.enabled, Some(true));
    assert_eq!(problems(Command::Up, &set(&["http.base"])).len(), 1);
}

#[test]
fn every_deprecated_name_has_a_key() {
    for name in names::NAMES {
        let found = catalogue::find(&text::path(name.key));
        let is_table =
            matches!(found, catalogue::Found::Section) && name.form == names::Form::Cookie;
        assert!(matches!(found, catalogue::Found::Key(_)) || is_table, "{}", name.key);
    }
}

#[test]
fn every_key_has_a_description_and_a_valid_default() {
    for key in catalogue::keys() {
        assert!(
            key.meaning.ends_with('.') || key.meaning.ends_with('`'),
            "{}: {}",
            key.path,
            key.meaning
        );
        if !key.default.is_null() {
            assert_eq!(key.kind.check(&key.default), Ok(()), "{}", key.path);
        }
    }
    assert!(catalogue::keys().len() > 80, "{}", catalogue::keys().len());
}

#[test]
fn numbers_beyond_64_bits_are_rejected() {
    let mut numbers = 0;
    for key in catalogue::keys() {
        if matches!(key.kind, value::Kind::Integer { .. }) {
            let refused = key.kind.read("18446744073709551615", ',').unwrap_err();
            assert!(refused.starts_with("a number from "), "{}: {refused}", key.path);
            numbers += 1;
        }
    }
    assert!(numbers >= 40, "{numbers}");
}

#[test]
fn help_of_concert_up_shows_at_most_25_flags() {
    let command = <Cli as clap::CommandFactory>::command();
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set()).count();
    assert!((15..=25).contains(&shown), "{shown}");
}

#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    settings: SettingFlags<of::Up>,
}

#[test]
fn flags_are_read_as_they_were_given() {
    let line = [
        "x",
        "--listen",
        "[::1]:1",
        "--no-archive",
        "--console=off",
        "--set",
        "http.base=",
        "--max-requests",
        "5",
    ];
    let flags = Cli::try_parse_from(line).unwrap().settings.given;
    for expected in [
        Flag::Named("listen", "[::1]:1".to_owned()),
        Flag::Named("no-archive", "true".to_owned()),
        Flag::Named("console", "off".to_owned()),
        Flag::Named("max-requests", "5".to_owned()),
        Flag::Set("http.base=".to_owned()),
    ] {
        assert!(flags.contains(&expected), "{expected:?}");
    }
    assert_eq!(flags.len(), 5);
}

#[test]
fn application_directory_is_found_above_and_paths_follow() {
    let root = tempfile::tempdir().unwrap();
    let below = root.path().join("docs/codes");
    let with_rules = root.path().join("examples/one");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::create_dir_all(with_rules.join("syncs")).unwrap();
    assert_eq!(app_dir_above(&below), PathBuf::new());
    std::fs::write(root.path().join("concert.toml"), "").unwrap();
    assert_eq!(app_dir_above(root.path()), PathBuf::new());
    assert_eq!(app_dir_above(&below), Path::new("../.."));
    assert_eq!(app_dir_above(&with_rules), PathBuf::new());

    let given = set(&["app.keys_dir=here"]);
    let file = "[rules]\nsyncs = \"rules\"\n[workers.Profile.settings]\npassword_blocklists = [\"a\", \"/b\"]\n";
    let inputs = Inputs {
        root: "../..".into(),
        file: Some(("../../concert.toml".to_owned(), file.to_owned())),
        variables: Vec::new(),
        flags: &given.flags,
    };
    let settings = load(Command::Up, &inputs, &built_in::workers()).unwrap().settings;
    assert_eq!(settings.app.data_dir, Path::new("../../.concert"));
    assert_eq!(settings.app.keys_dir(), Path::new("here"));
    assert_eq!(settings.rules.syncs, Path::new("../../rules"));
    let blocklists = json!({ "password_blocklists": ["../../a", "/b"] });
    assert_eq!(settings.of_worker("Profile"), blocklists);
}
