//! Invariants of all graph formats.

use std::collections::BTreeSet;

use concert_analysis::graph::Graph;
use roxmltree::{Document, Node};

/// Checks the invariants of a graph in all formats.
pub(crate) fn well_formed(graph: &Graph) {
    for link in &graph.links {
        assert!(link.from < graph.places.len() && link.to < graph.places.len());
    }
    check_mermaid(graph);
    check_dot(graph);
    check_svg(graph);
}

/// A line without quoted text.
fn bare(line: &str) -> String {
    let mut bare = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            c if !quoted => bare.push(c),
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
    }
    assert!(!quoted, "a quote is not closed: {line}");
    bare
}

fn balanced(line: &str) {
    let mut open = Vec::new();
    for c in line.replace("->", "").chars() {
        match c {
            '(' | '[' | '{' => open.push(c),
            ')' | ']' | '}' => assert_eq!(
                open.pop(),
                Some(if c == ')' {
                    '('
                } else if c == ']' {
                    '['
                } else {
                    '{'
                }),
                "{line}"
            ),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{line}");
}

/// Node names in a line.
fn nodes(line: &str) -> Vec<String> {
    let is_node =
        |word: &&str| word.strip_prefix('n').is_some_and(|number| number.parse::<usize>().is_ok());
    line.split(|c: char| !c.is_alphanumeric()).filter(is_node).map(str::to_owned).collect()
}

fn check_declared(graph: &Graph, lines: &[String], arrow: &str) {
    let (mut declared, mut used) = (BTreeSet::new(), BTreeSet::new());
    for line in lines {
        let is_edge = arrow.split('|').any(|arrow| line.contains(arrow));
        let found = nodes(line);
        if is_edge {
            assert_eq!(found.len(), 2, "{line}");
            used.extend(found);
        } else if let [node] = found.as_slice() {
            assert!(declared.insert(node.clone()), "{line}");
        }
    }
    assert_eq!(declared.len(), graph.places.len());
    assert!(used.is_subset(&declared));
}

fn check_mermaid(graph: &Graph) {
    let lines: Vec<String> = graph.to_mermaid().lines().map(bare).collect();
    assert_eq!(lines[3], "flowchart LR");
    lines.iter().for_each(|line| balanced(line));
    check_declared(graph, &lines, "-->|-.->");
    let count = lines.iter().filter(|line| line.contains("->")).count();
    assert_eq!(count, graph.links.len());
}

fn check_dot(graph: &Graph) {
    let lines: Vec<String> = graph.to_dot().lines().map(bare).collect();
    balanced(&lines.concat());
    check_declared(graph, &lines, "->");
}

/// A rectangle of the picture: left, top, right, bottom.
type Area = [f64; 4];

fn number(node: Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).unwrap().parse().unwrap()
}

fn overlap(a: &Area, b: &Area) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

fn check_svg(graph: &Graph) {
    let text = graph.to_svg();
    let document = Document::parse(&text).unwrap();
    let all = |name: &'static str, class: &'static str| {
        let of_class = move |node: &Node<'_, '_>| {
            node.attribute("class").is_some_and(|found| found.split(' ').any(|word| word == class))
        };
        document.descendants().filter(move |node| node.has_tag_name(name)).filter(of_class)
    };
    let boxes: Vec<Area> = all("rect", "box")
        .map(|node| {
            let (x, y) = (number(node, "x"), number(node, "y"));
            [x, y, x + number(node, "width"), y + number(node, "height")]
        })
        .collect();
    assert_eq!(boxes.len(), graph.places.len());
    let labels: Vec<Area> = all("text", "label")
        .map(|node| {
            let (x, y) = (number(node, "x"), number(node, "y"));
            let width = 6.0 * node.text().unwrap().chars().count() as f64;
            [x, y - 8.0, x + width, y + 2.0]
        })
        .collect();
    let everything: Vec<&Area> = boxes.iter().chain(&labels).collect();
    for (number, a) in everything.iter().enumerate() {
        for b in everything.iter().skip(number + 1) {
            assert!(!overlap(a, b), "{a:?} and {b:?} overlap");
        }
    }
    let (width, height) =
        (number(document.root_element(), "width"), number(document.root_element(), "height"));
    for found in &everything {
        assert!(
            found[0] >= 0.0 && found[1] >= 0.0 && found[2] <= width && found[3] <= height,
            "{found:?}"
        );
    }
    let edges: Vec<&str> = all("path", "edge").map(|node| node.attribute("d").unwrap()).collect();
    assert_eq!(edges.len(), graph.links.len());
    // Shrink the boxes a little, because edges end at their borders.
    let within: Vec<Area> =
        boxes.iter().map(|[a, b, c, d]| [a + 1.0, b + 0.5, c - 1.0, d - 0.5]).collect();
    for edge in edges {
        for [x, y] in points(edge) {
            let hit = within.iter().find(|area| overlap(area, &[x, y, x, y]));
            assert!(hit.is_none(), "{edge} runs through {hit:?}");
        }
    }
    let titles: BTreeSet<&str> = document
        .descendants()
        .filter(|node| node.has_tag_name("title"))
        .filter_map(|node| node.text())
        .collect();
    for place in &graph.places {
        assert!(titles.contains(place.description().as_str()), "{place:?}");
    }
}

/// Closely spaced points along an edge.
fn points(path: &str) -> Vec<[f64; 2]> {
    let mut points = Vec::new();
    let mut last = [0.0, 0.0];
    for step in path.split_inclusive(['M', 'H', 'C']).collect::<Vec<_>>().windows(2) {
        let kind = step[0].chars().last().unwrap();
        let values: Vec<f64> = step[1]
            .trim_end_matches(['M', 'H', 'C'])
            .split([',', ' '])
            .map(|value| value.parse().unwrap())
            .collect();
        let next = match kind {
            'M' => [values[0], values[1]],
            'H' => [values[0], last[1]],
            _ => [values[4], values[5]],
        };
        for part in 0..=20 {
            let t = f64::from(part) / 20.0;
            let rise = if kind == 'C' { t * t * (3.0 - 2.0 * t) } else { t };
            // Both control points are halfway across.
            let run = if kind == 'C' { 1.5 * t - 1.5 * t * t + t * t * t } else { t };
            if kind != 'M' {
                points.push([
                    last[0] + (next[0] - last[0]) * run,
                    last[1] + (next[1] - last[1]) * rise,
                ]);
            }
        }
        last = next;
    }
    points
}
