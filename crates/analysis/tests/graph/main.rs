//! Tests of the graph and its formats. `CONCERT_BLESS=1` rewrites the expected files.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot read its files fails"
)]

mod forms;
#[path = "../../../lang/tests/files/project.rs"]
mod project;
#[path = "../../../lang/tests/files/specs.rs"]
mod specs;

use concert_analysis::graph::{self, Graph, LinkKind, Place};
use concert_lang::compile;
use concert_lang::program::{Program, Query, Step};
use concert_lang::requesting;
use concert_lang::source::SourceFile;

use crate::forms::well_formed;
use crate::project::{files, root};
use crate::specs::specs;

fn project() -> Program {
    compiled(files("syncs", "sync"))
}

fn program(syncs: &str) -> Program {
    compiled(vec![SourceFile::new("test.sync".to_owned(), syncs.to_owned())])
}

fn compiled(syncs: Vec<SourceFile>) -> Program {
    compile(&specs(), &syncs).unwrap_or_else(|report| panic!("{report}")).0
}

/// Compares a generated text with a file of the project.
fn check_file(file: &str, found: &str) {
    let path = root().join(file);
    if std::env::var_os("CONCERT_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == found,
        "{file} differs from the rules; run the test with CONCERT_BLESS=1 to rewrite it:\n{found}"
    );
}

fn rules(graph: &Graph) -> Vec<String> {
    let rules = graph.places.iter().filter(|place| matches!(place, Place::Rule(_)));
    rules.map(Place::label).collect()
}

/// Every link as `from -> to`, with its kind.
fn links(graph: &Graph) -> Vec<String> {
    let label = |place: usize| match &graph.places[place] {
        Place::Outcome(name, _) => format!("{name} {}", graph.places[place].label()),
        other => other.label(),
    };
    let line = |link: &graph::Link| {
        let kind = match link.kind {
            LinkKind::When => "when",
            LinkKind::Then => "then",
            LinkKind::Else => "else",
            LinkKind::Asks => "asks",
        };
        format!("{} -{}-> {} [{}]", label(link.from), kind, label(link.to), link.label)
    };
    graph.links.iter().map(line).collect()
}

#[test]
fn project_graph_is_as_expected() {
    let all = graph::of(&project());
    assert_eq!(rules(&all).len(), project().syncs.len());
    check_file("crates/analysis/tests/graph/all.mmd", &all.to_mermaid());
    check_file("crates/analysis/tests/graph/all.dot", &all.to_dot());
    let login = graph::of_path(&project(), "/auth/login").unwrap();
    check_file("crates/analysis/tests/graph/login.mmd", &login.to_mermaid());
    check_file("crates/analysis/tests/graph/login.dot", &login.to_dot());
    check_file("crates/analysis/tests/graph/login.svg", &login.to_svg());
}

#[test]
fn documented_graph_is_up_to_date() {
    let mut accounts = files("syncs", "sync");
    accounts
        .retain(|file| file.name.ends_with("auth.sync") || file.name.ends_with("sessions.sync"));
    check_file("docs/rules.svg", &graph::of(&compiled(accounts)).to_svg());
}

#[test]
fn graph_is_independent_of_rule_order() {
    let mut files = files("syncs", "sync");
    let mut blocks: Vec<&str> = files[0].text.split("\n\n").collect();
    blocks.reverse();
    files[0] = SourceFile::new("turned.sync".to_owned(), format!("{}\n", blocks.join("\n\n")));
    let (turned, straight) = (graph::of(&compiled(files)), graph::of(&project()));
    assert_eq!(turned.to_svg(), straight.to_svg());
    assert_eq!(turned.to_mermaid(), straight.to_mermaid());
    assert_eq!(turned.to_dot(), straight.to_dot());
}

#[test]
fn outcomes_are_places_if_a_rule_matches_the_failure() {
    let links = links(&graph::of_path(&project(), "/auth/login").unwrap());
    assert_eq!(
        links,
        [
            "Profile.authenticate -when-> Profile.authenticate success []",
            "POST /auth/login -when-> CreateSessionOnSuccessfulAuthentication []",
            "Profile.authenticate success -when-> CreateSessionOnSuccessfulAuthentication []",
            "CreateSessionOnSuccessfulAuthentication -then-> Sessioning.create [1]",
            "CreateSessionOnSuccessfulAuthentication -then-> Requesting.respond [2]",
            "POST /auth/login -when-> HandleLoginRequest []",
            "HandleLoginRequest -then-> Profile.authenticate []",
            "Profile.authenticate -when-> Profile.authenticate failure []",
            "POST /auth/login -when-> RespondToFailedAuthentication []",
            "Profile.authenticate failure -when-> RespondToFailedAuthentication []",
            "RespondToFailedAuthentication -then-> Requesting.respond []",
        ]
    );
}

#[test]
fn graph_of_a_path_has_only_reachable_rules() {
    let rules = |path: &str| rules(&graph::of_path(&project(), path).unwrap());
    assert_eq!(rules("/auth/whoami"), ["WhoAmI"]);
    assert_eq!(
        rules("/auth/deleteAccount"),
        ["DeleteAccount", "EndSessionsOfDeletedAccount", "RemoveDataOfDeletedAccount"]
    );
    assert_eq!(rules("/auth/logout"), ["HandleLogoutRequest", "RespondToFailedLogout"]);
}

#[test]
fn rule_without_request_is_reached_through_its_action() {
    let program = program(
        r#"
sync Login
when
    Requesting.request (path: "/login", username, password) : (request)
then
    Profile.authenticate (username, password)
    Requesting.respond (request)

sync Remember
when
    Profile.authenticate () : (user)
then
    Sessioning.create (user)

sync Other
when
    Requesting.request (path: "/other") : (request)
then
    Requesting.respond (request)
"#,
    );
    let links = links(&graph::of_path(&program, "/login").unwrap());
    assert!(links.contains(&"Profile.authenticate -when-> Remember []".to_owned()), "{links:?}");
    assert!(!links.iter().any(|link| link.contains("ther")), "{links:?}");
}

#[test]
fn unknown_path_is_rejected_with_a_suggestion() {
    let error = |path: &str| graph::of_path(&project(), path).unwrap_err().to_string();
    assert_eq!(
        error("/auth/logn"),
        "no rule handles the path `/auth/logn`; did you mean `/auth/login`?"
    );
    let known = error("/");
    assert!(
        known.starts_with("no rule handles the path `/`; known paths: `/Annotation/"),
        "{known}"
    );
    assert!(known.contains("`/FocusStats/_getSessions`, `/FocusStats/_viewStats`"), "{known}");
}

#[test]
fn queries_and_both_kinds_of_else_are_distinguished() {
    let mut program = program(
        r#"
sync Leave
when
    Requesting.request (path: "/leave", session) : (request)
then
    Sessioning.delete (session)
    Requesting.respond (request)
else (error)
    Requesting.respond (request, error)
"#,
    );
    let mut sync = (*program.syncs[0]).clone();
    sync.elses = vec![sync.then[1].clone()];
    let query = Query {
        concept: "Sessioning".into(),
        name: "_getUser".into(),
        args: vec![],
        output: vec![],
    };
    let ask = Step::Query { join: concert_lang::program::Join::Rows, query, otherwise: Some(0) };
    sync.steps = vec![ask.clone(), ask];
    program.syncs[0] = sync.into();
    let graph = graph::of(&program);
    assert_eq!(
        links(&graph),
        [
            "POST /leave -when-> Leave []",
            "Leave -asks-> Sessioning._getUser []",
            "Leave -then-> Sessioning.delete [1]",
            "Leave -then-> Requesting.respond [2]",
            "Leave -else-> Requesting.respond [else]",
        ]
    );
    well_formed(&graph);
}

const CIRCLE: &str = r#"
sync Begin
when
    Requesting.request (path: "/begin", user) : (request)
then
    Sessioning.create (user)

sync Again
when
    Sessioning.create (user)
then
    Profile.deleteAccount (user)

sync AndAgain
when
    Profile.deleteAccount (user)
then
    Sessioning.create (user)
    Requesting.request (path: "/begin", user)
"#;

#[test]
fn rule_cycles_are_drawn() {
    let graph = graph::of(&program(CIRCLE));
    well_formed(&graph);
    well_formed(&graph::of_path(&program(CIRCLE), "/begin").unwrap());
}

#[test]
fn two_hundred_rules_are_drawn_without_an_overlap() {
    let actions = ["deleteAccount", "changePassword", "createAccount", "authenticate"];
    let mut concepts = vec![requesting::source()];
    let mut work = "concept Work\npurpose\n    be called\nactions\n".to_owned();
    for action in actions {
        work +=
            &format!("    {action} (a: Any) : (b: Any)\n    {action} (a: Any) : (error: String)\n");
    }
    concepts.push(SourceFile::new("Work.concept".to_owned(), work));
    let mut syncs = String::new();
    for number in 0..100 {
        let path = number % 30;
        let (first, second, third) =
            (actions[number % 4], actions[number % 3], actions[number % 2]);
        syncs += &format!(
            "
sync Ask{number}
when
    Requesting.request (path: \"/path{path}\", a) : (request)
then
    Work.{first} (a) : (b)
    Work.{second} (a: b)
    Requesting.respond (request)
else (error)
    Requesting.respond (request, error)

sync Follow{number}WithAVeryLongNameThatMustBeBroken
when
    Requesting.request (path: \"/path{path}\") : (request)
    Work.{first} (a) : (error)
    Work.{third} () : (b)
then
    Work.{second} (a: error)
    Work.{third} (a)
    Requesting.respond (request, b)
"
        );
    }
    let syncs = SourceFile::new("many.sync".to_owned(), syncs);
    let (program, _) = compile(&concepts, &[syncs]).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(program.syncs.len(), 200);
    let graph = graph::of(&program);
    assert_eq!(rules(&graph).len(), 200);
    well_formed(&graph);
}

#[test]
fn special_characters_in_paths_are_escaped() {
    let nasty = r##"/a\"b<c>&d'`#;\\]})\n\u0000|--%"##;
    let program = program(&format!(
        "sync Nasty\nwhen\n    Requesting.request (path: \"{nasty}\") : (request)\nthen\n    Requesting.respond (request)\n"
    ));
    let graph = graph::of(&program);
    well_formed(&graph);
    let (mermaid, dot) = (graph.to_mermaid(), graph.to_dot());
    assert!(
        mermaid
            .contains(r#"n0(["POST /a#34;b#60;c#62;#38;d'#96;#35;#59;#92;]})#92;n#92;u{0}|--%"])"#),
        "{mermaid}"
    );
    assert!(dot.contains(r#"[label="POST /a\"b<c>&d'`#;\\]})\\n\\u{0}|--%", "#), "{dot}");
}

#[test]
fn project_graph_is_well_formed_in_all_formats() {
    well_formed(&graph::of(&project()));
    for path in project().routes.routes.keys() {
        well_formed(&graph::of_path(&project(), path).unwrap());
    }
}
