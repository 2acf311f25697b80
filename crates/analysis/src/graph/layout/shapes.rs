//! What goes into the layout, what comes out of it, and what stands in its columns.

/// A node as it comes: how large it is at least.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::graph) struct Size {
    pub(in crate::graph) width: f64,
    pub(in crate::graph) height: f64,
}

/// An edge as it comes.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::graph) struct Line {
    pub(in crate::graph) from: usize,
    pub(in crate::graph) to: usize,
    /// How wide the label is; 0 without one.
    pub(in crate::graph) label: f64,
}

/// Where a node stands.
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

/// The way of an edge, in the direction in which it leads: straight from an even point to the odd
/// one after it, curved from there to the next.
#[derive(Debug, Clone, Default)]
pub(in crate::graph) struct Way {
    pub(in crate::graph) points: Vec<Point>,
    /// Where the label begins, at half of its height.
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

/// Something in a column: a node, or the bend of an edge that passes.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    pub(super) layer: usize,
    pub(super) height: f64,
    pub(super) is_bend: bool,
    /// From one edge that leaves it to the next.
    pub(super) port: f64,
    /// What it is connected to in the column before.
    pub(super) before: Vec<usize>,
    /// What it is connected to in the next column.
    pub(super) after: Vec<usize>,
}

/// What hangs together with a slot and was not seen yet, along the edges: the last of the arranged
/// neighbours first.
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

/// The value at a place; every place that is asked for is there.
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
