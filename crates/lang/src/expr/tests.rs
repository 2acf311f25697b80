use serde_json::json;

use super::*;
use crate::parser;
use crate::source::SourceFile;
use crate::syntax::{ExprDef, ExprKind, StepKind};

/// `a` is an object, `n` a number, `t` a string, `l` a list; other names are unbound.
fn frame() -> Vec<Option<Value>> {
    vec![
        Some(json!({"b": {"c": 7}, "in": 1})),
        Some(json!(2)),
        Some(json!("two")),
        Some(json!([1, "x", null, {"k": 1, "m": 2}])),
        None,
    ]
}

fn compiled(def: &ExprDef) -> Expr {
    let boxed = |def: &ExprDef| Box::new(compiled(def));
    match &def.kind {
        ExprKind::Variable(name) => {
            Expr::Variable(["a", "n", "t", "l"].iter().position(|known| known == name).unwrap_or(4))
        }
        ExprKind::Literal(value) => Expr::Literal(value.clone()),
        ExprKind::List(items) => Expr::List(items.iter().map(compiled).collect()),
        ExprKind::Object(members) => Expr::Object(
            members.iter().map(|(key, value)| (key.clone(), compiled(value))).collect(),
        ),
        ExprKind::Field(value, field) => Expr::Field(boxed(value), field.clone()),
        ExprKind::Not(value) => Expr::Not(boxed(value)),
        ExprKind::Binary(left, operator, right) => {
            Expr::Binary(boxed(left), *operator, boxed(right))
        }
    }
}

fn check(text: &str, expected: &Value) {
    let rule = format!("sync R\nwhen\n    A.b ()\nwhere\n    let v = {text}\nthen\n    A.b ()\n");
    let mut diagnostics = Vec::new();
    let rules = parser::parse(0, &SourceFile::new("r.sync", rule), &mut diagnostics).syncs;
    assert_eq!(diagnostics, [], "{text}");
    let StepKind::Let(_, def) = &rules[0].steps[0].kind else { panic!("{text}") };
    let (compiled, frame) = (compiled(def), frame());
    let frame: Vec<Option<&Value>> = frame.iter().map(Option::as_ref).collect();
    let found = compiled.eval(&frame).unwrap().into_owned();
    // Compare as text, because 1 and 1.0 must differ here.
    assert_eq!(found.to_string(), expected.to_string(), "{text}");
}

fn check_all(table: &[(&str, Value)]) {
    for (text, expected) in table {
        check(text, expected);
    }
}

#[test]
fn operators_bind_from_or_to_field_access() {
    check_all(&[
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3", json!(9)),
        ("7 - 2 - 1", json!(4)),
        ("8 / 2 / 2", json!(2)),
        ("1 - -1", json!(2)),
        ("none ?? 1 + 1", json!(2)),
        ("none ?? none ?? 3", json!(3)),
        ("1 + 1 == 2 and not 1 == 2", json!(true)),
        ("true or false and false", json!(true)),
        ("not true or true", json!(true)),
        ("not not true", json!(true)),
        ("n == 2 and t == \"two\"", json!(true)),
        ("a.b.c + 1", json!(8)),
        ("a.in", json!(1)),
        ("{x: 1}.x", json!(1)),
    ]);
}

#[test]
fn equality_is_deep_and_by_value() {
    check_all(&[
        ("1 == 1.0", json!(true)),
        ("1 == \"1\"", json!(false)),
        ("0 == -0", json!(true)),
        ("null == none", json!(true)),
        ("null == false", json!(false)),
        ("[1, {x: 2}] == [1.0, {x: 2.0}]", json!(true)),
        ("{x: 1, y: 2} == {y: 2, x: 1}", json!(true)),
        ("[1, 2] == [2, 1]", json!(false)),
        ("{x: 1} == {x: 1, y: null}", json!(false)),
        ("\"é\" == \"e\\u0301\"", json!(false)),
        ("1 != 2", json!(true)),
        ("\"\\ud83d\\ude00\" == \"😀\"", json!(true)),
    ]);
}

#[test]
fn comparing_values_without_order_is_false() {
    check_all(&[
        ("1 < 2", json!(true)),
        ("2 <= 2.0", json!(true)),
        ("\"a\" < \"b\"", json!(true)),
        ("\"Z\" < \"a\"", json!(true)),
        ("\"10\" < \"9\"", json!(true)),
        ("\"\\uffff\" < \"\\ud83d\\ude00\"", json!(true)),
        ("3 > 2 and 3 >= 3", json!(true)),
        ("1 < \"2\"", json!(false)),
        ("1 >= \"2\"", json!(false)),
        ("null < 1", json!(false)),
        ("null <= null", json!(false)),
        ("a <= a", json!(false)),
        ("false < true", json!(false)),
        ("[1] < [2]", json!(false)),
    ]);
}

#[test]
fn in_compares_with_each_element() {
    check_all(&[
        ("1.0 in l", json!(true)),
        ("null in l", json!(true)),
        ("{m: 2, k: 1} in l", json!(true)),
        ("\"y\" in l", json!(false)),
        ("1 in none", json!(false)),
        ("\"t\" in t", json!(false)),
        ("\"b\" in a", json!(false)),
        ("1 in []", json!(false)),
    ]);
}

#[test]
fn arithmetic_without_numbers_is_null() {
    check_all(&[
        ("n + 0.5", json!(2.5)),
        ("\"a\" + \"b\"", json!("ab")),
        ("\"a\" + 1", json!(null)),
        ("1 + \"a\"", json!(null)),
        ("none + 1", json!(null)),
        ("true + 1", json!(null)),
        ("[1] + [2]", json!(null)),
        ("\"a\" - \"b\"", json!(null)),
        ("1 / 0", json!(null)),
        ("0 / 0", json!(null)),
        ("-1 / 0", json!(null)),
        ("1e308 * 10", json!(null)),
        ("1 / 4", json!(0.25)),
        ("6 / 2", json!(3)),
        ("0 * -1", json!(0)),
        ("0.1 + 0.2", json!(0.1 + 0.2)),
        ("9007199254740992 - 1", json!(9_007_199_254_740_991_u64)),
    ]);
}

#[test]
fn field_of_a_non_object_is_null() {
    check_all(&[
        ("a.x", json!(null)),
        ("a.x.y", json!(null)),
        ("t.length", json!(null)),
        ("none.x", json!(null)),
        ("l.k", json!(null)),
    ]);
}

#[test]
fn only_true_is_true_and_only_null_has_a_default() {
    check_all(&[
        ("1 and true", json!(false)),
        ("\"true\" or false", json!(false)),
        ("not 1", json!(true)),
        ("not null", json!(true)),
        ("false ?? 1", json!(false)),
        ("0 ?? 1", json!(0)),
        ("a.x ?? \"none\"", json!("none")),
    ]);
}

#[test]
fn lists_and_objects_keep_the_order_written() {
    check_all(&[
        ("[n, t, none, ]", json!([2, "two", null])),
        ("{z: 1, \"y y\": t, n, null: none}", json!({"z": 1, "y y": "two", "n": 2, "null": null})),
        ("[]", json!([])),
        ("{}", json!({})),
    ]);
}

#[test]
fn slot_outside_the_frame_is_null() {
    assert_eq!(*Expr::Variable(9).eval(&[]).unwrap(), Value::Null);
}
