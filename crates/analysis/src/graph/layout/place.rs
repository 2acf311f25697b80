//! How high things stand in their columns: as near as may be to what they are connected to, in
//! their order and with room between them.

use super::shapes::{Slot, at, set};

/// How often to go through the columns.
const ROUNDS: usize = 60;
/// Between two boxes.
const BOX_GAP: f64 = 14.0;
/// Between an edge and anything else.
const BEND_GAP: f64 = 11.0;

/// The heights of one part, beginning at 0.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// The middle of each slot.
    pub(super) middles: Vec<(usize, f64)>,
    pub(super) height: f64,
}

/// Which neighbours a round looks at.
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
        // At first everything wishes to stand in the middle of its column.
        settle(slots, column, &vec![(0.0, 1.0); column.len()], &mut middle);
    }
    for round in 0..ROUNDS {
        let side = match round {
            _ if round >= 8 => Side::Both,
            _ if round % 2 == 0 => Side::Before,
            _ => Side::After,
        };
        let mut visit = |column: &Vec<usize>| {
            let wishes: Vec<(f64, f64)> =
                column.iter().map(|slot| wish(slots, *slot, side, &middle)).collect();
            settle(slots, column, &wishes, &mut middle);
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

/// Where a slot would like to stand, and how much. Bends most of all: a long edge should be
/// straight.
fn wish(slots: &[Slot], slot: usize, side: Side, middle: &[f64]) -> (f64, f64) {
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

/// Brings all bends of an edge to one height, if there is one that is free in all of their columns.
/// Looks only at the first bend of an edge.
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

/// Moves a column to where the squares of the distances from its wishes, each (place, weight), are
/// smallest while order and gaps are kept.
///
/// With the gaps taken off, that is a regression under an order: neighbours that wish to pass each
/// other are merged into a block at their mean, until none do.
fn settle(slots: &[Slot], column: &[usize], wishes: &[(f64, f64)], middle: &mut [f64]) {
    struct Block {
        sum: f64,
        weight: f64,
        members: Vec<(usize, f64)>,
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut offset = 0.0;
    let mut above: Option<&Slot> = None;
    for (slot, (wish, weight)) in column.iter().zip(wishes) {
        let known = slots.get(*slot);
        if let (Some(above), Some(known)) = (above, known) {
            let gap = if above.is_bend || known.is_bend { BEND_GAP } else { BOX_GAP };
            offset += above.height / 2.0 + gap + known.height / 2.0;
        }
        above = known;
        let mut block = Block {
            sum: (wish - offset) * weight,
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

    fn settled(wishes: &[f64]) -> Vec<f64> {
        let slots = vec![Slot { height: 10.0, ..Slot::default() }; wishes.len()];
        let column: Vec<usize> = (0..wishes.len()).collect();
        let wishes: Vec<(f64, f64)> = wishes.iter().map(|wish| (*wish, 1.0)).collect();
        let mut middle = vec![0.0; column.len()];
        settle(&slots, &column, &wishes, &mut middle);
        middle
    }

    #[test]
    fn wishes_that_leave_room_are_granted() {
        assert_eq!(settled(&[0.0, 100.0]), [0.0, 100.0]);
    }

    #[test]
    fn wishes_that_clash_are_missed_by_equal_distances() {
        assert_eq!(settled(&[50.0, 50.0]), [38.0, 62.0]);
        assert_eq!(settled(&[10.0, 0.0, 500.0]), [-7.0, 17.0, 500.0]);
    }
}
