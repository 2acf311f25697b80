//! DOT output for Graphviz, without colours.

use super::model::{Graph, LinkKind, Place};

pub(super) fn render(graph: &Graph) -> String {
    let mut lines = vec![
        "digraph rules {".to_owned(),
        format!("    label={}; labelloc=t; rankdir=LR;", quoted(&graph.title)),
        "    node [fontname=\"monospace\", fontsize=11]; edge [fontname=\"monospace\", fontsize=10];".to_owned(),
    ];
    for (number, place) in graph.places.iter().enumerate() {
        let shape = match place {
            Place::Request(_) | Place::Answer(_) => "box, style=rounded",
            Place::Action(_) => "box",
            Place::Outcome(..) => "plaintext",
            Place::Rule(_) => "hexagon",
            Place::Query(..) => "cylinder",
        };
        lines.push(format!("    n{number} [label={}, shape={shape}];", quoted(&place.label())));
    }
    for link in &graph.links {
        let style = match link.kind {
            LinkKind::When | LinkKind::Then => "solid",
            LinkKind::Else => "dashed",
            LinkKind::Asks => "dotted",
        };
        let label = match link.label.as_str() {
            "" => String::new(),
            label => format!(", label={}", quoted(label)),
        };
        lines.push(format!("    n{} -> n{} [style={style}{label}];", link.from, link.to));
    }
    lines.push("}\n".to_owned());
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
