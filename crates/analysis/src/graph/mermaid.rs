//! Mermaid output, with the colours of its theme.

use super::model::{Graph, LinkKind, Place};

pub(super) fn render(graph: &Graph) -> String {
    let mut lines = vec![format!("---\ntitle: {}\n---\nflowchart LR", quoted(&graph.title))];
    for (number, place) in graph.places.iter().enumerate() {
        let (open, close) = match place {
            Place::Request(_) | Place::Answer(_) => ("([", "])"),
            Place::Action(_) => ("[", "]"),
            Place::Outcome(..) => ("(", ")"),
            Place::Rule(_) => ("{{", "}}"),
            Place::Query(..) => ("[(", ")]"),
        };
        lines.push(format!("    n{number}{open}{}{close}", quoted(&place.label())));
    }
    for link in &graph.links {
        let arrow = match link.kind {
            LinkKind::When | LinkKind::Then => "-->",
            LinkKind::Else | LinkKind::Asks => "-.->",
        };
        let label = match link.label.as_str() {
            "" => String::new(),
            label => format!("|{}|", quoted(label)),
        };
        lines.push(format!("    n{} {arrow}{label} n{}", link.from, link.to));
    }
    // Mermaid has only one dashed line style, so the dashes are set per link.
    for (kind, dashes) in [(LinkKind::Else, "6 4"), (LinkKind::Asks, "1 4")] {
        let links = graph.links.iter().enumerate().filter(|(_, link)| link.kind == kind);
        let numbers: Vec<String> = links.map(|(number, _)| number.to_string()).collect();
        if !numbers.is_empty() {
            lines.push(format!("    linkStyle {} stroke-dasharray:{dashes}", numbers.join(",")));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn quoted(label: &str) -> String {
    let mut text = String::from("\"");
    for c in label.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '`' | ';' | '\\' => {
                text.push_str(&format!("#{};", u32::from(c)))
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
