//! Frames and paths: widths of the columns, and the ends of the edges.

use super::layers::Layering;
use super::shapes::{Frame, Layout, Line, Point, Size, Slot, Way, at, change, set};

/// Straight part before an arrow's end, and minimum straight part after a column.
const STUB: f64 = 9.0;
/// Distance between a node and the label of its edge.
const LABEL_GAP: f64 = 6.0;

/// Layout data after heights are fixed, before widths are.
pub(super) struct Drawing<'a> {
    pub(super) sizes: &'a [Size],
    pub(super) lines: &'a [Line],
    pub(super) layering: &'a Layering,
    pub(super) slots: &'a [Slot],
    pub(super) chains: &'a [Vec<usize>],
    pub(super) middle: &'a [f64],
}

/// Position of a column, and where the curves of its outgoing edges begin.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    left: f64,
    curve: f64,
}

impl Drawing<'_> {
    pub(super) fn draw(&self, position: &[usize], height: f64) -> Layout {
        let columns = self.columns();
        let right = |node: usize| {
            at(self.sizes, node).width + at(&columns, at(&self.layering.layer, node)).left
        };
        let frames: Vec<Frame> = self
            .sizes
            .iter()
            .zip(self.slots)
            .zip(self.middle)
            .map(|((size, slot), middle)| Frame {
                left: at(&columns, slot.layer).left,
                top: middle - slot.height / 2.0,
                width: size.width,
                height: slot.height,
            })
            .collect();
        let mut ways = Vec::new();
        for (chain, port) in self.chains.iter().zip(self.ports(position)) {
            let mut points = Vec::new();
            for (number, slot) in chain.iter().enumerate() {
                let column = at(&columns, self.slots.get(*slot).map_or(0, |slot| slot.layer));
                let y = at(self.middle, *slot);
                if number > 0 {
                    points.push(Point { x: column.left - STUB, y });
                }
                let ends = number + 1 == chain.len();
                points.push(match number {
                    0 => Point { x: right(*slot), y: port },
                    _ if ends => Point { x: column.left, y },
                    _ => Point { x: column.curve, y },
                });
                if number == 0 {
                    points.push(Point { x: column.curve, y: port });
                }
            }
            let first = points.first().copied().unwrap_or_default();
            let label = Point { x: first.x + LABEL_GAP, y: first.y };
            ways.push(Way { points, label });
        }
        for (way, reversed) in ways.iter_mut().zip(&self.layering.reversed) {
            if *reversed {
                way.points.reverse();
                way.label.x += STUB;
            }
        }
        let width = frames.iter().map(|frame| frame.left + frame.width).fold(0.0, f64::max);
        Layout { frames, ways, width, height }
    }

    /// Height at which each edge leaves its node, ordered by destination.
    fn ports(&self, position: &[usize]) -> Vec<f64> {
        let mut ports = vec![0.0; self.chains.len()];
        let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); self.sizes.len()];
        for (number, chain) in self.chains.iter().enumerate() {
            if let Some(edges) = chain.first().and_then(|first| leaving.get_mut(*first)) {
                edges.push(number);
            }
        }
        for (node, mut edges) in leaving.into_iter().enumerate() {
            let next = |edge: &usize| {
                self.chains.get(*edge).and_then(|chain| chain.get(1)).copied().unwrap_or(0)
            };
            edges.sort_by_key(|edge| (at(position, next(edge)), *edge));
            let port = self.slots.get(node).map_or(0.0, |slot| slot.port);
            let top = at(self.middle, node) - (edges.len() as f64 - 1.0) * port / 2.0;
            for (number, edge) in edges.into_iter().enumerate() {
                set(&mut ports, edge, top + number as f64 * port);
            }
        }
        ports
    }

    fn columns(&self) -> Vec<Column> {
        let count = self.slots.iter().map(|slot| slot.layer + 1).max().unwrap_or(0);
        let mut widest = vec![0.0_f64; count];
        let mut end = vec![0.0_f64; count];
        let mut steepest = vec![0.0_f64; count];
        for (slot, size) in self.slots.iter().zip(self.sizes) {
            change(&mut widest, slot.layer, |widest| widest.max(size.width));
        }
        for (chain, (line, reversed)) in
            self.chains.iter().zip(self.lines.iter().zip(&self.layering.reversed))
        {
            let Some(first) = chain.first() else { continue };
            let layer = at(&self.layering.layer, *first);
            let arrow = if *reversed { STUB } else { 0.0 };
            let label = if line.label > 0.0 { line.label + 2.0 * LABEL_GAP } else { 0.0 };
            let reach = at(self.sizes, *first).width + (arrow + label).max(STUB);
            change(&mut end, layer, |end| end.max(reach));
            for (a, b) in chain.iter().zip(chain.iter().skip(1)) {
                let layer = self.slots.get(*a).map_or(0, |slot| slot.layer);
                let rise = (at(self.middle, *a) - at(self.middle, *b)).abs();
                change(&mut steepest, layer, |steepest| steepest.max(rise));
            }
        }
        let mut left = 0.0;
        let mut columns = Vec::new();
        for ((widest, end), rise) in widest.into_iter().zip(end).zip(steepest) {
            let curve = left + end.max(widest);
            columns.push(Column { left, curve });
            left = curve + (rise / 5.0).clamp(26.0, 90.0).round() + STUB;
        }
        columns
    }
}
