//! Input, output and intermediate types of the layout.

/// Minimum size of a node.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::graph) struct Size {
    pub(in crate::graph) width: f64,
    pub(in crate::graph) height: f64,
}

/// An edge.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::graph) struct Line {
    pub(in crate::graph) from: usize,
    pub(in crate::graph) to: usize,
    /// Width of the label; 0 without one.
    pub(in crate::graph) label: f64,
}

/// Position and size of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::graph) struct Frame {
    pub(in crate::graph) left: f64,
    pub(in crate::graph) top: f64,
    pub(in crate::graph) width: f64,
    pub(in crate::graph) height: f64,
}

/// A point of the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::graph) struct Point {
    pub(in crate::graph) x: f64,
    pub(in crate::graph) y: f64,
}

/// Path of an edge, in its direction: by index, points 0 and 1, 2 and 3 and so on are joined by
/// straight lines, and 1 and 2, 3 and 4 and so on by curves.
#[derive(Debug, Clone, Default)]
pub(in crate::graph) struct Way {
    pub(in crate::graph) points: Vec<Point>,
    /// Start of the label, at half its height.
    pub(in crate::graph) label: Point,
}

/// The whole layout.
#[derive(Debug, Default)]
pub(in crate::graph) struct Layout {
    pub(in crate::graph) frames: Vec<Frame>,
    pub(in crate::graph) ways: Vec<Way>,
    pub(in crate::graph) width: f64,
    pub(in crate::graph) height: f64,
}

/// An entry in a column: a node, or a bend of an edge that passes the column.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    pub(super) layer: usize,
    pub(super) height: f64,
    pub(super) is_bend: bool,
    /// Distance between its outgoing edges.
    pub(super) port: f64,
    /// Connected slots in the previous column.
    pub(super) before: Vec<usize>,
    /// Connected slots in the next column.
    pub(super) after: Vec<usize>,
}

/// Unvisited slots connected to a slot, depth first; `arranged` orders the neighbours.
pub(super) fn walk(
    slots: &[Slot],
    start: usize,
    seen: &mut [bool],
    mut arranged: impl FnMut(&[usize]) -> Vec<usize>,
) -> Vec<usize> {
    let mut found = Vec::new();
    let mut waiting = vec![start];
    while let Some(next) = waiting.pop() {
        if at(seen, next) {
            continue;
        }
        set(seen, next, true);
        found.push(next);
        if let Some(slot) = slots.get(next) {
            waiting.extend(arranged(&slot.before));
            waiting.extend(arranged(&slot.after));
        }
    }
    found
}

/// The value at an index; callers use only valid indexes.
pub(super) fn at<T: Copy + Default>(list: &[T], place: usize) -> T {
    list.get(place).copied().unwrap_or_default()
}

pub(super) fn set<T>(list: &mut [T], place: usize, value: T) {
    if let Some(old) = list.get_mut(place) {
        *old = value;
    }
}

pub(super) fn change<T: Copy>(list: &mut [T], place: usize, to: impl FnOnce(T) -> T) {
    if let Some(old) = list.get_mut(place) {
        *old = to(*old);
    }
}
