//! The steps of `where`.

use super::*;

const REQUEST: &str = "Requesting.request (path: \"/go\", item, list?, user?) : (request)";

/// Runs one rule with these steps of `where`, whose only call notes the value of `text`. Returns
/// the notes in the order of the frames.
#[track_caller]
fn check(steps: &str, text: &str, input: Value, rows: &[(&str, Value, Value)], expected: &[&str]) {
    let rule = format!(
        "sync R\nwhen\n    {REQUEST}\nwhere\n{steps}\nthen\n    Shop.note (text: {text})\n"
    );
    let mut bench = Bench::new(&rule);
    for (query, input, rows) in rows {
        bench.answer(query, input.clone(), rows.clone());
    }
    let mut request = json!({"path": "/go", "item": "book"});
    for (key, value) in input.as_object().unwrap() {
        request[key] = value.clone();
    }
    let invocations = bench.request(request);
    let found: Vec<String> = invocations
        .iter()
        .map(|invocation| match &*invocation.action {
            "note" => body(invocation)["text"].as_str().unwrap_or_default().to_owned(),
            _ => format!("answered {}", body(invocation)["error"]),
        })
        .collect();
    assert_eq!(found, expected);
}

fn stock(count: Value) -> (&'static str, Value, Value) {
    ("_stock", json!({"item": "book"}), json!([{ "count": count }]))
}

fn tags(item: &str, tags: &[&str]) -> (&'static str, Value, Value) {
    let rows = tags.iter().map(|tag| json!({ "tag": tag })).collect();
    ("_tags", json!({ "item": item }), rows)
}

fn owner(item: &str, user: Option<&str>) -> (&'static str, Value, Value) {
    let rows = user.iter().map(|user| json!({ "user": user })).collect();
    ("_owner", json!({ "item": item }), rows)
}

#[test]
fn query_makes_a_frame_per_row() {
    let steps = "    Shop._tags (item) : (tag)";
    check(steps, "tag", json!({}), &[tags("book", &["a", "b"])], &["a", "b"]);
    check(steps, "tag", json!({}), &[tags("book", &[])], &[]);
}

#[test]
fn frames_equal_in_used_variables_are_merged() {
    let steps = "    Shop._tags (item) : (tag)";
    check(steps, "item", json!({}), &[tags("book", &["a", "b"])], &["book"]);
    check(steps, "tag", json!({}), &[tags("book", &["a", "a"])], &["a"]);
}

#[test]
fn bound_variable_must_equal_the_row() {
    let steps = "    Shop._owner (item) : (user)";
    check(steps, "user + item", json!({"user": "u1"}), &[owner("book", Some("u1"))], &["u1book"]);
    check(steps, "user + item", json!({"user": "u2"}), &[owner("book", Some("u1"))], &[]);
    let steps = "    Shop._tags (item) : (tag: \"b\")";
    check(steps, "item", json!({}), &[tags("book", &["a", "b"])], &["book"]);
}

#[test]
fn optional_query_without_rows_binds_null() {
    let steps = "    optional Shop._owner (item) : (user: who)";
    check(steps, "who ?? \"ghost\"", json!({}), &[owner("book", None)], &["ghost"]);
    check(steps, "who ?? \"ghost\"", json!({}), &[owner("book", Some("u1"))], &["u1"]);
}

#[test]
fn some_and_no_test_for_rows_without_binding() {
    let rows = [tags("book", &["a", "b"])];
    check("    some Shop._tags (item) : (tag: \"b\")", "item", json!({}), &rows, &["book"]);
    check("    some Shop._tags (item) : (tag: \"c\")", "item", json!({}), &rows, &[]);
    check("    no Shop._tags (item) : (tag: \"c\")", "item", json!({}), &rows, &["book"]);
    check("    no Shop._tags (item)", "item", json!({}), &rows, &[]);
    check("    no Shop._tags (item)", "item", json!({}), &[tags("book", &[])], &["book"]);
}

#[test]
fn each_iterates_and_let_binds() {
    let steps = "    each one in list\n    let both = item + one";
    check(steps, "both", json!({"list": ["a", "b"]}), &[], &["booka", "bookb"]);
    check(steps, "both", json!({"list": []}), &[], &[]);
    check(steps, "both", json!({"list": null}), &[], &[]);
    check(steps, "both", json!({}), &[], &[]);
}

#[test]
fn condition_passes_only_true() {
    check(
        "    Shop._stock (item) : (count)\n    count > 3",
        "item",
        json!({}),
        &[stock(json!(4))],
        &["book"],
    );
    check(
        "    Shop._stock (item) : (count)\n    count > 3",
        "item",
        json!({}),
        &[stock(json!(3))],
        &[],
    );
    // Types without an order, and null.
    check(
        "    Shop._stock (item) : (count)\n    count > \"3\"",
        "item",
        json!({}),
        &[stock(json!(4))],
        &[],
    );
}

#[test]
fn step_without_frames_runs_its_else() {
    let steps = "    Shop._owner (item) : (user: owner)\n        else Requesting.respond (request, error: \"no owner of \" + item, status: 404)\n    \
                 user == owner\n        else Requesting.respond (request, error: \"owned by \" + owner, status: 403)";
    let found = [owner("book", Some("u1"))];
    check(steps, "owner", json!({"user": "u1"}), &found, &["u1"]);
    check(steps, "owner", json!({"user": "u2"}), &found, &["answered \"owned by u1\""]);
    check(
        steps,
        "owner",
        json!({"user": "u2"}),
        &[owner("book", None)],
        &["answered \"no owner of book\""],
    );
}

#[test]
fn collect_keeps_the_frame_even_with_an_empty_list() {
    let steps = "    Shop._tags (item) : (tag)\n    tag != \"a\"\n    collect tag as tags\n    let joined = tags == [\"b\", \"b\"]";
    let text = "item + (joined ?? \"\")";
    // Equality shows the content of a list, which has no text form.
    let steps_of = |expected: &str| {
        format!(
            "    Shop._tags (item) : (tag)\n    tag != \"a\"\n    collect tag as tags\n    tags == {expected}"
        )
    };
    assert!(!steps.is_empty() && !text.is_empty());
    check(
        &steps_of("[\"b\", \"b\"]"),
        "item",
        json!({}),
        &[tags("book", &["a", "b", "b"])],
        &["book"],
    );
    check(&steps_of("[]"), "item", json!({}), &[tags("book", &["a"])], &["book"]);
    check(&steps_of("[]"), "item", json!({}), &[tags("book", &[])], &["book"]);
}

#[test]
fn nested_collect_keeps_empty_lists() {
    let steps = "    each event in list
    Shop._friends (user) : (friend)
    some Shop._events (user: friend) : (event)
    collect friend as friends
    collect (event, friends) as results
    results == [{event: \"e1\", friends: [\"f1\", \"f2\"]}, {event: \"e2\", friends: []}]";
    let events = |user: &str, events: &[&str]| {
        let rows = events.iter().map(|event| json!({ "event": event })).collect();
        ("_events", json!({ "user": user }), rows)
    };
    let friends = (
        "_friends",
        json!({"user": "u"}),
        json!([{"friend": "f1"}, {"friend": "f2"}, {"friend": "f3"}]),
    );
    check(
        steps,
        "item",
        json!({"user": "u", "list": ["e1", "e2"]}),
        &[friends, events("f1", &["e1"]), events("f2", &["e0", "e1"]), events("f3", &[])],
        &["book"],
    );
}

#[test]
fn collect_after_a_failed_step_gives_no_list() {
    let steps = "    Shop._owner (item) : (user)\n    Shop._tags (item) : (tag)\n    collect tag as tags\n    tags == []";
    let rows = [owner("book", Some("u1")), tags("book", &[])];
    check(steps, "item", json!({"user": "u1"}), &rows, &["book"]);
    check(steps, "item", json!({"user": "u2"}), &rows, &[]);
}

#[test]
fn equal_queries_of_a_completion_run_once() {
    let rule = |name: &str, step: &str| {
        format!(
            "sync {name}\nwhen\n    Requesting.request (path: \"/go\", item) : (request)\nwhere\n    {step}\nthen\n    Shop.note (text: \"{name}\")\n"
        )
    };
    let rules = [
        rule("A", "Shop._tags (item) : (tag: \"a\")"),
        rule("B", "some Shop._tags (item)"),
        rule("C", "no Shop._tags (item)"),
    ];
    let mut bench = Bench::new(&rules.concat());
    let (query, input, rows) = tags("book", &["a"]);
    bench.answer(query, input, rows);
    let found = bench.request(json!({"path": "/go", "item": "book"}));
    assert_eq!(
        shown(&found, bench.flow),
        ["Shop.note {\"text\":\"A\"}", "Shop.note {\"text\":\"B\"}"]
    );
    assert_eq!(bench.asked.len(), 1);
}

#[test]
fn firing_over_the_frame_limit_stops_the_request() {
    let limits = Limits { frames_per_firing: 3, ..Limits::default() };
    for step in ["each one in list", "Shop._tags (item: item) : (tag: one)"] {
        let rule = format!(
            "sync R\nwhen\n    {REQUEST}\nwhere\n    {step}\nthen\n    Shop.note (text: item + one)\n"
        );
        for (count, expected) in [(3, 3), (4, 1)] {
            let mut bench = Bench::with(&rule, limits);
            let list: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
            let (query, input, rows) =
                tags("book", &list.iter().map(String::as_str).collect::<Vec<_>>());
            bench.answer(query, input, rows);
            let found = bench.request(json!({"path": "/go", "item": "book", "list": list}));
            assert_eq!(found.len(), expected, "{step} {count}");
            let is_stopped =
                found[0].action.as_ref() == "respond" && body(&found[0])["status"] == 508;
            assert_eq!(is_stopped, count > 3, "{step} {count}");
        }
    }
}

#[test]
fn collect_gathers_thousands_of_rows_by_default() {
    let rule = format!(
        "sync R\nwhen\n    {REQUEST}\nwhere\n    Shop._tags (item) : (tag)\n    collect tag as tags\nthen\n    Requesting.respond (request, tags)\n"
    );
    let mut bench = Bench::new(&rule);
    let list: Vec<String> = (0..2000).map(|number| format!("n{number}")).collect();
    let (query, input, rows) = tags("book", &list.iter().map(String::as_str).collect::<Vec<_>>());
    bench.answer(query, input, rows);
    let found = bench.request(json!({"path": "/go", "item": "book"}));
    assert_eq!(body(&found[0])["tags"], json!(list));
}

#[test]
fn rule_joins_the_siblings_of_a_fan_out() {
    let rules = format!(
        "sync Out\nwhen\n    {REQUEST}\nwhere\n    each one in list\nthen\n    Shop.price (item: one)\n\n\
         sync In\nwhen\n    Shop.price (item: \"a\") : (cents: first)\n    Shop.price (item: \"b\") : (cents: second)\nthen\n    Shop.sell (item: \"both\", cents: first + second)\n"
    );
    let mut bench = Bench::new(&rules);
    let asked = bench.request(json!({"path": "/go", "item": "book", "list": ["a", "b"]}));
    super::check(&bench, &asked, &["Shop.price {\"item\":\"a\"}", "Shop.price {\"item\":\"b\"}"]);
    let first = bench.complete(&asked[1], json!({"cents": 20}));
    super::check(&bench, &first, &[]);
    let second = bench.complete(&asked[0], json!({"cents": 1}));
    super::check(&bench, &second, &["Shop.sell {\"item\":\"both\",\"cents\":21}"]);
}

#[test]
fn forged_firing_record_is_dead_lettered() {
    let rule = format!(
        "sync R\nwhen\n    {REQUEST}\nwhere\n    some Shop._tags (item)\nthen\n    Shop.note (text: item)\n"
    );
    let mut bench = Bench::new(&rule);
    let (query, input, rows) = tags("book", &[]);
    bench.answer(query, input, rows);
    assert!(bench.request(json!({"path": "/go", "item": "book"})).is_empty());
    let (cause, id) = (bench.flow.root(), ActionId::injected("forged", 1, 1));
    let firing = json!({"sync": "R", "causes": [cause.to_string()], "frames": [{"frame": {"item": "gold"}}]});
    let input = json!({"cause": cause.to_string(), "rules": "x"});
    let forged = bench.logged("Concert.fired", id, input.clone(), json!({"firings": [firing]}));
    let effects = bench.engine.step(Event::Delivered(forged));
    assert!(matches!(effects[..], [Effect::DeadLetter { .. }]), "{effects:?}");
    // A valid id with an unknown rule.
    let firing = json!({"sync": "Q", "causes": [], "frames": []});
    let unknown =
        bench.logged("Concert.fired", cause.firing_record(), input, json!({"firings": [firing]}));
    let effects = bench.engine.step(Event::Delivered(unknown));
    assert!(matches!(effects[..], [Effect::DeadLetter { .. }]), "{effects:?}");
}

#[test]
fn failed_query_runs_again_on_redelivery() {
    let rule = format!(
        "sync R\nwhen\n    {REQUEST}\nwhere\n    some Shop._tags (item)\nthen\n    Shop.note (text: item)\n"
    );
    let mut bench = Bench::new(&rule);
    let root = bench.flow.root();
    let output = json!({ "request": bench.flow.to_string() });
    let logged =
        bench.logged("Requesting.request", root, json!({"path": "/go", "item": "book"}), output);
    let seq = logged.seq;
    let effects = bench.engine.step(Event::Delivered(logged.clone()));
    assert!(matches!(effects[..], [Effect::Ask { .. }]), "{effects:?}");
    // A redelivery in the meantime changes nothing.
    assert_eq!(bench.engine.step(Event::Delivered(logged.clone())), []);
    assert_eq!(bench.engine.step(Event::Unanswered { seq }), [Effect::Retry { seq }]);
    let (query, input, rows) = tags("book", &["a"]);
    bench.answer(query, input, rows);
    let found = bench.deliver(logged);
    super::check(&bench, &found, &["Shop.note {\"text\":\"book\"}"]);
}

#[test]
fn query_after_collect_waits_for_the_complete_list() {
    let rule = format!(
        "sync R\nwhen\n    {REQUEST}\nwhere\n    each one in list\n    Shop._tags (item: \"all\") : (tag)\n    collect tag as tags\n    \
         some Shop._all (tags)\nthen\n    Shop.note (text: item)\n"
    );
    let mut bench = Bench::new(&rule);
    let root = bench.flow.root();
    let input = json!({"path": "/go", "item": "book", "list": [1, 2]});
    let logged =
        bench.logged("Requesting.request", root, input, json!({ "request": root.to_string() }));
    // Both frames need the same result. The query after `collect` must not run before.
    let effects = bench.engine.step(Event::Delivered(logged.clone()));
    let [Effect::Ask { batch, seq, .. }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((&*batch.query, batch.inputs.len()), ("_tags", 1));
    let (batch, seq) = (batch.clone(), *seq);
    let rows = vec![vec![json!({"tag": "a"}).as_object().unwrap().clone()]];
    let effects = bench.engine.step(Event::Answered { seq, batch, rows });
    let [Effect::Ask { batch, .. }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((&*batch.query, &batch.inputs[0]["tags"]), ("_all", &json!(["a"])));
}

#[test]
fn frames_of_a_step_query_together() {
    let rule = format!(
        "sync R\nwhen\n    {REQUEST}\nwhere\n    each one in list\n    Shop._tags (item: one) : (tag)\nthen\n    Shop.note (text: tag)\n"
    );
    let mut bench = Bench::new(&rule);
    let root = bench.flow.root();
    let input = json!({"path": "/go", "item": "book", "list": ["a", "b", "a", "c"]});
    let output = json!({ "request": root.to_string() });
    let logged = bench.logged("Requesting.request", root, input, output);
    let seq = logged.seq;
    let effects = bench.engine.step(Event::Delivered(logged));
    let [Effect::Ask { batch, .. }] = &effects[..] else { panic!("{effects:?}") };
    let items: Vec<&Value> = batch.inputs.iter().map(|input| &input["item"]).collect();
    assert_eq!(items, ["a", "b", "c"], "each input once");
    let row = |tag: &str| vec![json!({ "tag": tag }).as_object().unwrap().clone()];
    // A result for each input is required.
    let (batch, rows) = (batch.clone(), vec![row("x"), row("y"), row("z")]);
    let answered = Event::Answered { seq, batch: batch.clone(), rows: rows[..2].to_vec() };
    let [Effect::Record { record, .. }] = &bench.engine.step(answered)[..] else { panic!() };
    assert!(String::from_utf8_lossy(&record.body).contains("2 results for 3 inputs"));
    let mut bench = Bench::new(&rule);
    for (item, tag) in [("a", "x"), ("b", "y"), ("c", "z")] {
        let (query, input, rows) = tags(item, &[tag]);
        bench.answer(query, input, rows);
    }
    let input = json!({"path": "/go", "item": "book", "list": ["a", "b", "a", "c"]});
    let found = bench.request(input);
    let notes = ["x", "y", "z"].map(|tag| format!("Shop.note {{\"text\":\"{tag}\"}}"));
    super::check(&bench, &found, &notes.each_ref().map(String::as_str));
}
