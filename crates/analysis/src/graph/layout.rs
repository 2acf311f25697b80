//! Layered graph layout, from left to right.
//!
//! A crate does not serve here: `rust-sugiyama` does not route edges around nodes, and `layout-rs`
//! draws the picture itself with fixed colours.
//!
//! Nodes are in columns, in the order of the edges ([`layers`]). An edge that passes a column has a
//! slot there, called a bend, so that no edge runs through a node. The slots of a column are
//! ordered to reduce crossings ([`order`]), and then moved vertically to straighten edges
//! ([`place`]). Unconnected parts are laid out separately, one below the other.

mod draw;
mod layers;
mod order;
mod place;
mod shapes;

use self::draw::Drawing;
use self::layers::Layering;
pub(super) use self::shapes::{Frame, Layout, Line, Point, Size, Way};
use self::shapes::{Slot, at, set, walk};

/// Distance between edges that leave one node; fits a label.
const PORT: f64 = 15.0;
/// Maximum height for all unlabelled edges that leave a node, because there can be hundreds.
const UNLABELLED_PORTS: f64 = 90.0;
/// Distance between unconnected parts.
const PART_GAP: f64 = 30.0;

/// Computes the layout of nodes and edges.
pub(super) fn layout(sizes: &[Size], lines: &[Line]) -> Layout {
    let ends: Vec<(usize, usize)> = lines.iter().map(|line| (line.from, line.to)).collect();
    let layering = layers::assign(sizes.len(), &ends);
    let (slots, chains) = slots(sizes, lines, &layering);
    let mut position = vec![0; slots.len()];
    let mut middle = vec![0.0; slots.len()];
    let mut height = 0.0;
    for part in parts(&slots) {
        let columns = order::order(&slots, &part);
        for column in &columns {
            for (at, slot) in column.iter().enumerate() {
                set(&mut position, *slot, at);
            }
        }
        if height > 0.0 {
            height += PART_GAP;
        }
        let placed = place::place(&slots, &columns);
        for (slot, y) in &placed.middles {
            set(&mut middle, *slot, y + height);
        }
        height += placed.height;
    }
    let drawing = Drawing {
        sizes,
        lines,
        layering: &layering,
        slots: &slots,
        chains: &chains,
        middle: &middle,
    };
    drawing.draw(&position, height)
}

/// Converts each edge to a chain of slots, one per column; the nodes are the first slots.
fn slots(sizes: &[Size], lines: &[Line], layering: &Layering) -> (Vec<Slot>, Vec<Vec<usize>>) {
    let mut slots: Vec<Slot> = sizes
        .iter()
        .zip(&layering.layer)
        .map(|(size, layer)| Slot { layer: *layer, height: size.height, ..Slot::default() })
        .collect();
    let mut chains = Vec::new();
    for (line, reversed) in lines.iter().zip(&layering.reversed) {
        let (first, last) = if *reversed { (line.to, line.from) } else { (line.from, line.to) };
        let mut chain = vec![first];
        for layer in at(&layering.layer, first) + 1..at(&layering.layer, last) {
            chain.push(slots.len());
            slots.push(Slot { layer, is_bend: true, ..Slot::default() });
        }
        chain.push(last);
        for (a, b) in chain.iter().zip(chain.iter().skip(1)) {
            if let Some(slot) = slots.get_mut(*a) {
                slot.after.push(*b);
            }
            if let Some(slot) = slots.get_mut(*b) {
                slot.before.push(*a);
            }
        }
        chains.push(chain);
    }
    let mut has_labels = vec![false; sizes.len()];
    for (chain, _) in chains.iter().zip(lines).filter(|(_, line)| line.label > 0.0) {
        chain.first().into_iter().for_each(|first| set(&mut has_labels, *first, true));
    }
    for (slot, has_labels) in slots.iter_mut().zip(has_labels) {
        let leaving = slot.after.len() as f64;
        slot.port = if has_labels { PORT } else { PORT.min(UNLABELLED_PORTS / leaving.max(1.0)) };
        slot.height = slot.height.max(leaving * slot.port);
    }
    (slots, chains)
}

/// Connected parts, ordered by their first nodes.
fn parts(slots: &[Slot]) -> Vec<Vec<usize>> {
    let mut seen = vec![false; slots.len()];
    let mut parts = Vec::new();
    for start in 0..slots.len() {
        let part = walk(slots, start, &mut seen, |list| list.iter().rev().copied().collect());
        if !part.is_empty() {
            parts.push(part);
        }
    }
    parts
}
