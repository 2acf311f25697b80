//! Vertical positions in the columns: as close as possible to connected slots, keeping order and
//! gaps.

use super::shapes::{Slot, at, set};

/// Number of passes over the columns.
const ROUNDS: usize = 60;
/// Distance between two boxes.
const BOX_GAP: f64 = 14.0;
/// Distance between an edge and anything else.
const BEND_GAP: f64 = 11.0;

/// Vertical positions in one part, starting at 0.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Middle of each slot.
    pub(super) middles: Vec<(usize, f64)>,
    pub(super) height: f64,
}

/// Neighbours that a pass uses.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Before,
    After,
    Both,
}

/// Places the columns of one part.
pub(super) fn place(slots: &[Slot], columns: &[Vec<usize>]) -> Placed {
    let mut middle = vec![0.0; slots.len()];
    for column in columns {
        // Start with all slots centred in their columns.
        settle(slots, column, &vec![(0.0, 1.0); column.len()], &mut middle);
    }
    for round in 0..ROUNDS {
        let side = match round {
            _ if round >= 8 => Side::Both,
            _ if round % 2 == 0 => Side::Before,
            _ => Side::After,
        };
        let mut visit = |column: &Vec<usize>| {
            let targets: Vec<(f64, f64)> =
                column.iter().map(|slot| target(slots, *slot, side, &middle)).collect();
            settle(slots, column, &targets, &mut middle);
        };
        if round % 2 == 0 {
            columns.iter().for_each(&mut visit);
        } else {
            columns.iter().rev().for_each(&mut visit);
        }
    }
    for first in columns.iter().flatten() {
        straighten(slots, columns, *first, &mut middle);
    }
    let extents = || {
        columns.iter().flatten().map(|slot| (*slot, at(&middle, *slot), height(slots, *slot) / 2.0))
    };
    let top = extents().map(|(_, y, half)| y - half).fold(f64::INFINITY, f64::min);
    let bottom = extents().map(|(_, y, half)| y + half).fold(f64::NEG_INFINITY, f64::max);
    Placed {
        middles: extents().map(|(slot, y, _)| (slot, (y - top).round())).collect(),
        height: (bottom - top).max(0.0).round(),
    }
}

fn height(slots: &[Slot], slot: usize) -> f64 {
    slots.get(slot).map_or(0.0, |slot| slot.height)
}

/// Preferred position of a slot, with a weight. Bends have the highest weight, to keep long edges
/// straight.
fn target(slots: &[Slot], slot: usize, side: Side, middle: &[f64]) -> (f64, f64) {
    let here = at(middle, slot);
    let Some(known) = slots.get(slot) else {
        return (here, 1.0);
    };
    let before = known.before.iter().filter(|_| side != Side::After);
    let after = known.after.iter().filter(|_| side != Side::Before);
    let mut sum = 0.0;
    let mut weight = 0.0;
    for neighbour in before.chain(after) {
        let is_bend = slots.get(*neighbour).is_some_and(|slot| slot.is_bend);
        let pull = match (known.is_bend, is_bend) {
            (true, true) => 8.0,
            (true, false) | (false, true) => 2.0,
            (false, false) => 1.0,
        };
        sum += at(middle, *neighbour) * pull;
        weight += pull;
    }
    if weight > 0.0 { (sum / weight, weight) } else { (here, 0.1) }
}

/// Moves all bends of an edge to one height, if one is free in all their columns. `first` is the
/// first bend of the edge; other slots are ignored.
fn straighten(slots: &[Slot], columns: &[Vec<usize>], first: usize, middle: &mut [f64]) {
    let is_bend = |slot: &usize| slots.get(*slot).is_some_and(|slot| slot.is_bend);
    let before = slots.get(first).and_then(|slot| slot.before.first());
    if !is_bend(&first) || before.is_some_and(is_bend) {
        return;
    }
    let bends: Vec<usize> = std::iter::successors(Some(first), |bend| {
        slots.get(*bend).and_then(|slot| slot.after.first()).copied().filter(is_bend)
    })
    .collect();
    let (mut lowest, mut highest, mut sum) = (f64::NEG_INFINITY, f64::INFINITY, 0.0);
    for bend in &bends {
        sum += at(middle, *bend);
        let Some(column) = slots.get(*bend).and_then(|slot| columns.get(slot.layer)) else {
            continue;
        };
        let place = column.iter().position(|slot| slot == bend).unwrap_or(0);
        let room = |slot: usize| height(slots, slot) / 2.0 + BEND_GAP;
        if let Some(above) = place.checked_sub(1).and_then(|above| column.get(above)) {
            lowest = lowest.max(at(middle, *above) + room(*above));
        }
        if let Some(below) = column.get(place + 1) {
            highest = highest.min(at(middle, *below) - room(*below));
        }
    }
    if lowest <= highest {
        let height = (sum / bends.len() as f64).max(lowest).min(highest);
        bends.iter().for_each(|bend| set(middle, *bend, height));
    }
}

/// Places a column to minimize the squared distances from the targets (position, weight), keeping
/// order and gaps.
///
/// Without the gaps this is an isotonic regression: neighbours in the wrong order are merged into a
/// block at their mean, until none are left.
fn settle(slots: &[Slot], column: &[usize], targets: &[(f64, f64)], middle: &mut [f64]) {
    struct Block {
        sum: f64,
        weight: f64,
        members: Vec<(usize, f64)>,
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut offset = 0.0;
    let mut above: Option<&Slot> = None;
    for (slot, (target, weight)) in column.iter().zip(targets) {
        let known = slots.get(*slot);
        if let (Some(above), Some(known)) = (above, known) {
            let gap = if above.is_bend || known.is_bend { BEND_GAP } else { BOX_GAP };
            offset += above.height / 2.0 + gap + known.height / 2.0;
        }
        above = known;
        let mut block = Block {
            sum: (target - offset) * weight,
            weight: *weight,
            members: vec![(*slot, offset)],
        };
        while let Some(last) =
            blocks.pop_if(|last| last.sum / last.weight > block.sum / block.weight)
        {
            block.sum += last.sum;
            block.weight += last.weight;
            block.members.splice(0..0, last.members);
        }
        blocks.push(block);
    }
    for block in blocks {
        for (slot, offset) in block.members {
            set(middle, slot, block.sum / block.weight + offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(targets: &[f64]) -> Vec<f64> {
        let slots = vec![Slot { height: 10.0, ..Slot::default() }; targets.len()];
        let column: Vec<usize> = (0..targets.len()).collect();
        let targets: Vec<(f64, f64)> = targets.iter().map(|target| (*target, 1.0)).collect();
        let mut middle = vec![0.0; column.len()];
        settle(&slots, &column, &targets, &mut middle);
        middle
    }

    #[test]
    fn targets_with_enough_room_are_reached() {
        assert_eq!(settled(&[0.0, 100.0]), [0.0, 100.0]);
    }

    #[test]
    fn conflicting_targets_are_missed_by_equal_distances() {
        assert_eq!(settled(&[50.0, 50.0]), [38.0, 62.0]);
        assert_eq!(settled(&[10.0, 0.0, 500.0]), [-7.0, 17.0, 500.0]);
    }
}
