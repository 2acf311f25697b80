//! Tests of the descriptions in `docs/`. `CONCERT_BLESS=1` rewrites them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot read its files fails")]

#[path = "../../lang/tests/files/project.rs"]
mod project;
#[path = "../../lang/tests/files/specs.rs"]
mod specs;

use std::path::Path;

use concert_analysis::describe;
use concert_lang::compile;
use concert_lang::program::Program;
use concert_lang::requesting;
use concert_lang::source::SourceFile;
use serde_json::{Value, json};

use crate::project::files;
use crate::specs::specs;

fn compiled(syncs: &[SourceFile]) -> Program {
    let compiled = compile(&specs(), syncs);
    compiled.unwrap_or_else(|report| panic!("{report}")).0
}

fn of_rule(text: &str) -> Value {
    let program = compiled(&[SourceFile::new("one.sync".to_owned(), text.to_owned())]);
    describe::openapi(&program, "/api")
}

#[track_caller]
fn check(file: &str, found: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
    let found = serde_json::to_string_pretty(found).unwrap() + "\n";
    if std::env::var_os("CONCERT_BLESS").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == kept,
        "{} differs from rules and specs; run the test with CONCERT_BLESS=1 to rewrite it",
        file.display()
    );
}

#[test]
fn documents_are_up_to_date() {
    let syncs = files("syncs", "sync");
    let mut concepts = files("concepts", "concept");
    concepts.push(requesting::source_for(&syncs));
    concepts.sort_by(|a, b| a.name.cmp(&b.name));
    let (program, _) = compile(&concepts, &syncs).unwrap_or_else(|report| panic!("{report}"));
    check("openapi.json", &describe::openapi(&program, "/api"));
    check("asyncapi.json", &describe::asyncapi(&program));
}

/// Checks that every `$ref` exists in the document.
fn follow(document: &Value, at: &Value, seen: &mut usize) {
    match at {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
                *seen += 1;
            }
            map.values().for_each(|value| follow(document, value, seen));
        }
        Value::Array(items) => items.iter().for_each(|item| follow(document, item, seen)),
        _ => {}
    }
}

#[test]
fn every_reference_exists() {
    let program = compiled(&files("syncs", "sync"));
    for document in [describe::openapi(&program, "/api"), describe::asyncapi(&program)] {
        let mut seen = 0;
        follow(&document, &document, &mut seen);
        assert!(seen > 20, "{seen}");
    }
}

#[test]
fn asyncapi_marks_actions_with_effects() {
    let program = compiled(&[]);
    let document = describe::asyncapi(&program);
    let described = document["info"]["description"].as_str().unwrap();
    assert!(described.contains("`x-concert-effects`"), "{described}");
    let mut marks = std::collections::BTreeSet::new();
    for concept in program.concepts.iter().filter(|concept| &*concept.name != "Requesting") {
        for action in &concept.actions {
            for operation in ["ask", "serve"] {
                let key = format!("{operation}_{}_{}", concept.name, action.name);
                let mark = &document["operations"][&key]["x-concert-effects"];
                assert_eq!(mark, &json!(action.has_effects), "{key}");
            }
            marks.insert(action.has_effects);
        }
        for query in &concept.queries {
            let key = format!("serve_{}_{}", concept.name, query.name);
            let operation = &document["operations"][&key];
            assert!(operation.is_object() && operation.get("x-concert-effects").is_none(), "{key}");
        }
    }
    assert_eq!(marks.len(), 2, "the specs have actions with and without effects");
}

#[test]
fn response_body_has_types_from_the_specs() {
    let document = of_rule(
        r#"
sync Sessions
when
    Requesting.request (path: "/sessions", session, note?) : (request)
where
    Sessioning._getUser (session) : (user)
        else Requesting.respond (request, error: "nobody", status: 401)
    Sessioning._getSessions (user) : (id, createdAt)
    collect (id, createdAt) as list
then
    Requesting.respond (request, user, note, list, greeting: "hello " + "you", count: 1 + 1, old: user == note)
"#,
    );
    let post = &document["paths"]["/sessions"]["post"];
    assert_eq!(
        post["requestBody"]["content"]["application/json"]["schema"],
        json!({
            "type": "object",
            "properties": {
                "note": {},
                "session": { "type": "string", "format": "password", "maxLength": 43 },
            },
            "required": ["session"],
        })
    );
    let body = |status: &str| &post["responses"][status]["content"]["application/json"]["schema"];
    assert_eq!(body("401")["properties"], json!({ "error": { "const": "nobody" } }));
    let ok = body("200");
    assert_eq!(
        ok["properties"]["user"],
        json!({ "type": "string", "minLength": 1, "title": "User" })
    );
    assert_eq!(ok["properties"]["note"], json!({ "anyOf": [{}, { "type": "null" }] }));
    assert_eq!(ok["properties"]["greeting"], json!({ "type": "string" }));
    assert_eq!(ok["properties"]["old"], json!({ "type": "boolean" }));
    let item = &ok["properties"]["list"]["items"];
    assert_eq!(item["required"], json!(["id", "createdAt"]));
    assert_eq!(item["properties"]["id"]["title"], "Session");
    assert_eq!(ok["additionalProperties"], false);
}

#[test]
fn body_of_respond_with_is_the_whole_response() {
    let document = of_rule(
        r#"
sync Sessions
when
    Requesting.request (path: "/sessions", user) : (request)
where
    Sessioning._getSessions (user) : (id)
    collect id as ids
then
    Requesting.respondWith (request, body: [{user: {_id: user, ids}}], status: 201)
"#,
    );
    let post = &document["paths"]["/sessions"]["post"];
    let schema = &post["responses"]["201"]["content"]["application/json"]["schema"];
    assert_eq!(schema["type"], "array");
    let user = &schema["items"]["properties"]["user"];
    assert_eq!(user["required"], json!(["_id", "ids"]));
    assert_eq!(user["properties"]["ids"]["items"]["title"], "Session");
    let says = post["description"].as_str().unwrap();
    assert!(says.contains("responds 201 with body [{user: {_id: user, ids: ids}}]"), "{says}");
}

#[test]
fn declared_types_become_schemas() {
    let desk = SourceFile::new("Desk.concept", include_str!("golden/program/Desk.concept"));
    let rule = SourceFile::new(
        "one.sync",
        r#"
sync Paint
when
    Requesting.request (path: "/paint", document, color, name) : (request)
where
    Desk._page (document) : (page)
then
    Desk.paint (document, color)
    Desk.rename (document, name)
    Requesting.respond (request, page, title: page.Title, next: page.next._id)
"#,
    );
    let (program, _) = compile(&[specs(), vec![desk]].concat(), &[rule]).unwrap();
    let document = describe::openapi(&program, "/api");
    let post = &document["paths"]["/paint"]["post"];
    let body = &post["requestBody"]["content"]["application/json"]["schema"]["properties"];
    assert_eq!(body["name"], json!({ "type": "string", "maxLength": 64 }));
    let color = json!({ "type": "string", "enum": ["red", "green"] });
    assert_eq!(body["color"], json!({ "anyOf": [color, { "type": "null" }] }));
    let ok = &post["responses"]["200"]["content"]["application/json"]["schema"]["properties"];
    let id = json!({ "type": "string", "minLength": 1, "title": "Page" });
    let or_null = |schema: &Value| json!({ "anyOf": [schema, { "type": "null" }] });
    assert_eq!(ok["page"]["properties"]["_id"], id);
    assert_eq!(ok["page"]["required"], json!(["_id", "Title"]));
    assert_eq!(ok["title"], or_null(&json!({ "type": "string" })));
    assert_eq!(ok["next"], or_null(&id));
}

#[test]
fn computed_status_is_the_default_response() {
    let document = of_rule(
        r#"
sync Computed
when
    Requesting.request (path: "/computed", code) : (request)
then
    Requesting.respond (request, status: code)
"#,
    );
    let responses = document["paths"]["/computed"]["post"]["responses"].as_object().unwrap();
    assert!(responses.contains_key("default"), "{responses:?}");
    assert!(!responses.contains_key("200"), "{responses:?}");
}

#[test]
fn response_with_status_204_has_no_content() {
    let document = of_rule(
        r#"
sync Deleted
when
    Requesting.request (path: "/deleted") : (request)
then
    Requesting.respond (request, status: 204)
"#,
    );
    let response = &document["paths"]["/deleted"]["post"]["responses"]["204"];
    assert!(response["description"].is_string() && response.get("content").is_none());
}
