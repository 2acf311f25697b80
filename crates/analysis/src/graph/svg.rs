//! SVG output without scripts or fonts, with colours for light and dark mode.

mod text;

use super::layout::{self, Frame, Layout, Line, Point, Size, Way};
use super::model::{Graph, LinkKind, Place};
use concert_lang::program::Outcome;
use text::{CHAR_WIDTH, LINE_HEIGHT, columns, escaped, wrapped};

/// Margin around the graph.
const MARGIN: f64 = 20.0;
/// Height of the title.
const HEADING: f64 = 34.0;
/// Distance between a box and its text.
const PADDING: f64 = 10.0;
/// Width of a character in an edge label.
const LABEL_CHAR_WIDTH: f64 = 6.1;

const STYLE: &str = "\
svg{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}
.paper{fill:#ffffff}
text{font-size:12px;fill:#1f2328}
.title{font-size:14px;font-weight:600}
.label{font-size:10px;fill:#57606a;stroke:#ffffff;stroke-width:4px;paint-order:stroke;stroke-linejoin:round}
.box{stroke-width:1.2;fill:#f6f8fa;stroke:#8c959f}
.request .box,.answer .box{fill:#ddf4ff;stroke:#218bff}
.rule .box{fill:#fff8c5;stroke:#bf8700}
.success .box{fill:#dafbe1;stroke:#2da44e}
.failure .box{fill:#ffebe9;stroke:#cf222e}
.query .box{fill:#fbefff;stroke:#a475f9;stroke-dasharray:2 3}
.edge{fill:none;stroke:#6e7781;stroke-width:1.4}
.edge.else{stroke:#cf222e;stroke-dasharray:6 4}
.edge.asks{stroke:#8250df;stroke-dasharray:1.5 4;stroke-linecap:round}
.tip{fill:#6e7781}
.tip.else{fill:#cf222e}
.tip.asks{fill:#8250df}
@media (prefers-color-scheme:dark){
.paper{fill:#0d1117}
text{fill:#e6edf3}
.label{fill:#9ea7b3;stroke:#0d1117}
.box{fill:#21262d;stroke:#6e7681}
.request .box,.answer .box{fill:#0c2d6b;stroke:#388bfd}
.rule .box{fill:#3b2e0a;stroke:#bb8009}
.success .box{fill:#0f3a1d;stroke:#2ea043}
.failure .box{fill:#4c1518;stroke:#f85149}
.query .box{fill:#2d1f4e;stroke:#a371f7}
.edge{stroke:#8b949e}
.edge.else{stroke:#f85149}
.edge.asks{stroke:#a371f7}
.tip{fill:#8b949e}
.tip.else{fill:#f85149}
.tip.asks{fill:#a371f7}
}
";

const DESCRIPTION: &str = "From left to right: requests and actions lead to the rules that \
    match them, and rules to the actions that they call. Numbers are the order of the calls. \
    Dashed: calls of an else. Dotted: queries of a rule.";

pub(super) fn render(graph: &Graph) -> String {
    let labels: Vec<Vec<String>> =
        graph.places.iter().map(|place| wrapped(&place.label())).collect();
    let sizes: Vec<Size> = labels.iter().map(|lines| size(lines)).collect();
    let lines: Vec<Line> = graph
        .links
        .iter()
        .map(|link| Line {
            from: link.from,
            to: link.to,
            label: columns(&link.label) as f64 * LABEL_CHAR_WIDTH,
        })
        .collect();
    let layout = layout::layout(&sizes, &lines);
    let title = escaped(&graph.title);
    let width = layout.width.max(columns(&graph.title) as f64 * 9.0) + 2.0 * MARGIN;
    let height = layout.height + 2.0 * MARGIN + HEADING;
    let mut out = vec![
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="{title}">"#
        ),
        format!("<title>{title}</title>"),
        format!("<desc>{DESCRIPTION}</desc>"),
        format!("<style>\n{STYLE}</style>"),
        "<defs>".to_owned(),
    ];
    out.extend(["then", "else", "asks"].map(|kind| {
        format!(r#"<marker id="tip-{kind}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path class="tip {kind}" d="M0,0.5L8,4L0,7.5z"/></marker>"#)
    }));
    out.push("</defs>".to_owned());
    out.push(r#"<rect class="paper" width="100%" height="100%" rx="6"/>"#.to_owned());
    out.push(format!(
        r#"<text class="title" x="{MARGIN}" y="{:.0}">{title}</text>"#,
        MARGIN + 12.0
    ));
    out.push(format!(r#"<g transform="translate({MARGIN},{:.0})">"#, MARGIN + HEADING));
    edges(graph, &layout, &mut out);
    for ((place, lines), frame) in graph.places.iter().zip(&labels).zip(&layout.frames) {
        node(place, lines, frame, &mut out);
    }
    out.push("</g>\n</svg>\n".to_owned());
    out.join("\n")
}

fn size(lines: &[String]) -> Size {
    let longest = lines.iter().map(|line| columns(line)).max().unwrap_or(0);
    Size {
        width: (longest as f64 * CHAR_WIDTH + 2.0 * PADDING).ceil(),
        height: lines.len() as f64 * LINE_HEIGHT + PADDING,
    }
}

/// Draws labels after all edges, so that no edge covers a label.
fn edges(graph: &Graph, layout: &Layout, out: &mut Vec<String>) {
    for (link, way) in graph.links.iter().zip(&layout.ways) {
        let kind = match link.kind {
            LinkKind::When | LinkKind::Then => "then",
            LinkKind::Else => "else",
            LinkKind::Asks => "asks",
        };
        out.push(format!(
            r#"<path class="edge {kind}" marker-end="url(#tip-{kind})" d="{}"/>"#,
            path(way)
        ));
    }
    for (link, way) in graph.links.iter().zip(&layout.ways) {
        if !link.label.is_empty() {
            let Point { x, y } = way.label;
            out.push(format!(
                r#"<text class="label" x="{x:.0}" y="{:.1}">{}</text>"#,
                y + 3.5,
                escaped(&link.label)
            ));
        }
    }
}

fn path(way: &Way) -> String {
    let mut steps = Vec::new();
    let mut last = Point::default();
    for (number, point) in way.points.iter().enumerate() {
        let Point { x, y } = *point;
        steps.push(match number {
            0 => format!("M{x:.1},{y:.1}"),
            _ if number % 2 == 1 => format!("H{x:.1}"),
            _ => {
                let half = (last.x + x) / 2.0;
                format!("C{half:.1},{:.1} {half:.1},{y:.1} {x:.1},{y:.1}", last.y)
            }
        });
        last = *point;
    }
    steps.join("")
}

fn node(place: &Place, lines: &[String], frame: &Frame, out: &mut Vec<String>) {
    let (class, radius) = match place {
        Place::Request(_) => ("request", 14.0),
        Place::Answer(_) => ("answer", 14.0),
        Place::Action(_) => ("action", 3.0),
        Place::Outcome(_, Outcome::Success) => ("success", 12.0),
        Place::Outcome(_, Outcome::Failure) => ("failure", 12.0),
        Place::Rule(_) => ("rule", 8.0),
        Place::Query(..) => ("query", 3.0),
    };
    let Frame { left, top, width, height } = *frame;
    out.push(format!(r#"<g class="{class}"><title>{}</title>"#, escaped(&place.description())));
    out.push(format!(
        r#"<rect class="box" x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" rx="{radius}"/>"#
    ));
    // Baseline of the first line; the text is centred vertically.
    let first = top + height / 2.0 - (lines.len() as f64 - 1.0) * LINE_HEIGHT / 2.0 + 4.0;
    for (number, line) in lines.iter().enumerate() {
        let y = first + number as f64 * LINE_HEIGHT;
        out.push(format!(
            r#"<text x="{:.1}" y="{y:.1}" text-anchor="middle">{}</text>"#,
            left + width / 2.0,
            escaped(line)
        ));
    }
    out.push("</g>".to_owned());
}
