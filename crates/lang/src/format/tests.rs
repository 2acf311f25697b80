use crate::format;
use crate::source::SourceFile;

fn formatted(text: &str) -> String {
    format(&SourceFile::new("a.sync", text)).unwrap_or_else(|report| panic!("{report}"))
}

/// Checks the formatted text, and that formatting is idempotent.
#[track_caller]
fn check(text: &str, expected: &str) {
    let found = formatted(text);
    assert_eq!(found, expected, "\n{found}");
    assert_eq!(formatted(&found), found, "formatting is not idempotent");
}

const BEFORE: &str = "sync R\nwhen\n    A.b (path: \"/x\") : (request, v, w)\nthen\n";
const AFTER: &str = "then\n    A.b ()\n";

/// Checks a call of `then`; both texts are without indentation.
#[track_caller]
fn check_call(call: &str, expected: &str) {
    check(&format!("{BEFORE}{call}"), &format!("{BEFORE}{}", indented(expected)));
}

/// Checks steps of `where`.
#[track_caller]
fn check_steps(steps: &str, expected: &str) {
    let head = "sync R\nwhen\n    A.b () : (v)\nwhere\n";
    check(&format!("{head}{steps}\n{AFTER}"), &format!("{head}{}{AFTER}", indented(expected)));
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn sections_are_at_the_margin_and_contents_are_indented() {
    check(
        "  sync   R\n\n\twhen A . b(  ):( request )\n where A._q(request):(v) else A.c(v)\n\n  then A.b(request)\n  A.d()\n else(error)\n A.b (error)",
        "sync R\nwhen\n    A.b () : (request)\nwhere\n    A._q (request) : (v)\n        else A.c (v)\nthen\n    A.b (request)\n    A.d ()\nelse (error)\n    A.b (error)\n",
    );
}

#[test]
fn rules_are_separated_by_one_blank_line() {
    let rule = "sync R\nwhen\n    A.b ()\nthen\n    A.c ()\n";
    check(&format!("\n\n{rule}{rule}\n\n\n{rule}\n\n"), &format!("{rule}\n{rule}\n{rule}"));
}

#[test]
fn byte_order_mark_and_windows_line_ends_are_removed() {
    check(
        "\u{feff}// A\r\n\r\n// B\t\r\nsync R\r\nwhen\r\nA.b () // C \r\nthen\r\nA.c (s: \"\\r\\u0041\")",
        "// A\n\n// B\nsync R\nwhen\n    A.b () // C\nthen\n    A.c (s: \"\\r\\u0041\")\n",
    );
}

#[test]
fn files_without_rules_keep_their_comments() {
    for (text, expected) in [("", ""), ("\n \n", ""), (" // a\n\n\n//b", "// a\n\n//b\n")] {
        check(text, expected);
    }
}

#[test]
fn strings_and_numbers_are_unchanged() {
    check_call(
        r#"A.c (a:"\u00e9\/é",b:1.50,c:1E+3,d:- 0.0,e:{"a":1,"b b":-1})"#,
        r#"A.c (a: "\u00e9\/é", b: 1.50, c: 1E+3, d: -0.0, e: {"a": 1, "b b": -1})"#,
    );
}

#[test]
fn redundant_names_are_shortened() {
    for (call, expected) in [
        ("A.c (v: v, w?: w) : (o: o, p: q)", "A.c (v, w?) : (o, p: q)"),
        ("A.c (a: {v: v, w: v})", "A.c (a: {v, w: v})"),
        ("A.c (v: v.v, w: v + w)", "A.c (v: v.v, w: v + w)"),
        // A quoted key and a keyword have no short form.
        (r#"A.c (a: {"v": v}, true: true)"#, r#"A.c (a: {"v": v}, true: true)"#),
        (r#"A.c (v: "v")"#, r#"A.c (v: "v")"#),
    ] {
        check_call(call, expected);
    }
    check_steps("v\ncollect (v: v, k: w) as rows", "v\ncollect (v, k: w) as rows");
}

#[test]
fn brackets_are_kept() {
    check_call(
        "A.c (a: ( v+w )*2-( -1 ), b: not(v==w), c: (v), d: [v , [ ],{ }, ].e . in)",
        "A.c (a: (v + w) * 2 - (-1), b: not (v == w), c: (v), d: [v, [], {}].e.in)",
    );
}

#[test]
fn every_step_is_formatted() {
    let steps = "optional A._q (v) : (w)\nsome A._q ()\n    else A.c ()\nno A._q (v?) : (k: \"x\", w?: u)\nlet x = -1 - -1\neach y in x ?? []\n\
        not y in x and y != null\n    else A.c (y)\ncollect y as ys\ncollect (y, z: x) as rows";
    check_steps(steps, steps);
    check_steps("A._q()\n:(w)\nelse A.c()", "A._q () : (w)\n    else A.c ()");
}

#[test]
fn broken_lines_that_fit_are_joined() {
    check_call("A.c (\n  v,\n  w: v +\n w,\n)", "A.c (v, w: v + w)");
    check_steps("let x = v ??\n\n  null", "let x = v ?? null");
}

#[test]
fn long_lines_are_broken_at_the_outermost_bracket() {
    let item = "x".repeat(40);
    check_call(
        &format!("A.c (a{item}: {{k: v, l: w}}, b{item}: v)"),
        &format!("A.c (\n    a{item}: {{k: v, l: w}},\n    b{item}: v,\n)"),
    );
    check_call(
        &format!("A.c (a: {{k: \"{item}\", l: \"{item}\", m: [\"{item}\"]}}) : (o)"),
        &format!(
            "A.c (\n    a: {{\n        k: \"{item}\",\n        l: \"{item}\",\n        m: [\"{item}\"],\n    }},\n) : (o)"
        ),
    );
    // The wider bracket is broken.
    check_call(
        &format!("A.c (v) : (a{item}, b{item}, c{item})"),
        &format!("A.c (v) : (\n    a{item},\n    b{item},\n    c{item},\n)"),
    );
    // Both are broken if one is not enough.
    let long = "x".repeat(100);
    check_call(
        &format!("A.c (a{long}: v) : (b{long})"),
        &format!("A.c (\n    a{long}: v,\n) : (\n    b{long},\n)"),
    );
}

#[test]
fn lines_of_100_columns_are_kept() {
    // 4 for the indentation, 8 for `A.c (a: `, 2 for the quotes, 1 for the bracket.
    let full = format!("A.c (a: \"{}\")", "é".repeat(100 - 15));
    check_call(&full, &full);
    check_call(
        &full.replace("é\"", "éé\""),
        &format!("A.c (\n    a: \"{}\",\n)", "é".repeat(100 - 14)),
    );
}

#[test]
fn long_expressions_are_broken_after_the_loosest_operators() {
    let (a, b) = ("a".repeat(40), "b".repeat(40));
    check_steps(
        &format!("v == \"{a}\" or v == \"{b}\" and w == 1 or (v)\nelse A.c ()"),
        &format!("v == \"{a}\" or\n    v == \"{b}\" and w == 1 or\n    (v)\n    else A.c ()"),
    );
    check_steps(
        &format!("let x = (\"{a}\" + \"{b}\" + v + \"{a}\") ?? null"),
        &format!(
            "let x = (\n    \"{a}\" +\n        \"{b}\" +\n        v +\n        \"{a}\"\n) ??\n    null"
        ),
    );
}

#[test]
fn comments_keep_their_place() {
    let text = "\
// The file.

// Above R.
// Still above R.
sync R // R
// when
when // when
    // a pattern
    A.b () : (v) // the pattern
    // behind it
where
    A._q (v) // a query
        // before else
        else A.c () // else
    // last step
// then
then
    A.c (v) // call
    // Todo.

// Between.

// Above S.
sync S
when
    A.b ()
then
    A.c ()
    // Still S.
// And this.

// The end.
";
    let expected = text.replace("// And this", "    // And this");
    check(text, &expected);
}

#[test]
fn comment_directly_above_a_rule_belongs_to_it() {
    check(
        "sync R\nwhen\nA.b ()\nthen\nA.c () // c\n  // of S\nsync S\nwhen\nA.b ()\nthen\nA.c ()\n",
        "sync R\nwhen\n    A.b ()\nthen\n    A.c () // c\n\n// of S\nsync S\nwhen\n    A.b ()\nthen\n    A.c ()\n",
    );
}

#[test]
fn comments_in_brackets_keep_them_broken() {
    check_call(
        "A.c ( // all\n v, // one\n // two\n w\n // last\n) // end",
        "A.c ( // all\n    v, // one\n    // two\n    w,\n    // last\n) // end",
    );
    check_call("A.c (\n// none\n)", "A.c (\n    // none\n)");
    check_call("A.c (v) : (o // out\n)", "A.c (v) : (\n    o, // out\n)");
    check_steps(
        "A._q (v) // in\n // more\n : (w) // out",
        "A._q (v) // in\n    // more\n    : (w) // out",
    );
    check_steps(
        "v == 1 and // first\n// second\nv == 2",
        "v == 1 and // first\n    // second\n    v == 2",
    );
}

#[test]
fn comment_inside_a_unit_moves_to_the_next_line_end() {
    check_call(
        "A.c (no // a\n : v // b\n , // c\n w)",
        "A.c (\n    no: v, // a\n    // b\n    // c\n    w,\n)",
    );
    check_steps("let x = - // a\n 1 // b", "let x = -1 // a\n// b");
}

#[test]
fn file_with_syntax_errors_is_rejected() {
    let report = format(&SourceFile::new("a.sync", "sync R\nwhen\n    A.b (\nthen\n    A.c ()\n"))
        .unwrap_err();
    assert!(report.to_string().contains("a.sync:3:"), "{report}");
}
