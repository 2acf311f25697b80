//! Orders the slots in each column to reduce crossings. Each slot moves to the mean position of its
//! neighbours, column by column in both directions; then adjacent slots are swapped where that
//! helps.

use super::shapes::{Slot, at, set, walk};

/// Number of passes over the columns; more passes rarely help.
const ROUNDS: usize = 16;
/// Number of initial orders to try, while some edges cross.
const TRIES: u64 = 24;
/// Graphs with at least this many slots get fewer tries.
const LARGE: usize = 300;
const TRIES_IF_LARGE: u64 = 4;

/// Orders the columns of one part, each from top to bottom.
pub(super) fn order(slots: &[Slot], part: &[usize]) -> Vec<Vec<usize>> {
    let mut best = columns(slots, part);
    let mut fewest = improve(slots, &mut best);
    let tries = if part.len() < LARGE { TRIES } else { TRIES_IF_LARGE };
    for number in 1..tries {
        if fewest == 0 {
            break;
        }
        let mut shuffler = Shuffler(number);
        // Walk along the edges, so that long edges keep their relative order in all columns.
        let start = part.first().copied().unwrap_or(0);
        let shuffled =
            walk(slots, start, &mut vec![false; slots.len()], |list| shuffler.shuffled(list));
        let mut other = columns(slots, &shuffled);
        let crossings = improve(slots, &mut other);
        if crossings < fewest {
            fewest = crossings;
            best = other;
        }
    }
    // Of the two mirror images, choose the one closer to the order of the nodes.
    let inverted = inversions(slots, &best);
    if inverted.0 > inverted.1 {
        best.iter_mut().for_each(|column| column.reverse());
    }
    best
}

/// Number of pairs of nodes in one column against and with the order of their numbers.
fn inversions(slots: &[Slot], columns: &[Vec<usize>]) -> (usize, usize) {
    let mut counts = (0, 0);
    for column in columns {
        let is_node = |slot: &&usize| slots.get(**slot).is_some_and(|slot| !slot.is_bend);
        let nodes: Vec<&usize> = column.iter().filter(is_node).collect();
        for (place, above) in nodes.iter().enumerate() {
            let against = nodes.iter().skip(place + 1).filter(|below| below < &above).count();
            counts.0 += against;
            counts.1 += nodes.len() - place - 1 - against;
        }
    }
    counts
}

/// Deterministic pseudo-random numbers.
struct Shuffler(u64);

impl Shuffler {
    fn shuffled(&mut self, list: &[usize]) -> Vec<usize> {
        let mut keyed: Vec<(u64, usize)> = list
            .iter()
            .map(|slot| {
                self.0 = self
                    .0
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 33, *slot)
            })
            .collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, slot)| slot).collect()
    }
}

fn columns(slots: &[Slot], part: &[usize]) -> Vec<Vec<usize>> {
    let layer = |slot: usize| slots.get(slot).map_or(0, |slot| slot.layer);
    let count = part.iter().map(|slot| layer(*slot) + 1).max().unwrap_or(0);
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); count];
    for slot in part {
        if let Some(column) = columns.get_mut(layer(*slot)) {
            column.push(*slot);
        }
    }
    columns
}

/// Keeps the best order found, and returns its number of crossings.
fn improve(slots: &[Slot], columns: &mut Vec<Vec<usize>>) -> usize {
    let mut best = columns.clone();
    let mut fewest = crossings(slots, columns);
    for round in 0..ROUNDS {
        if fewest == 0 {
            break;
        }
        sweep(slots, columns, round % 2 == 0);
        swap_neighbours(slots, columns);
        let crossings = crossings(slots, columns);
        if crossings < fewest {
            fewest = crossings;
            best.clone_from(columns);
        }
    }
    *columns = best;
    fewest
}

fn sweep(slots: &[Slot], columns: &mut [Vec<usize>], forward: bool) {
    let mut position = positions(slots.len(), columns);
    let mut visit = |column: &mut Vec<usize>| {
        let mut targets: Vec<(f64, usize)> = column
            .iter()
            .map(|slot| {
                let own = at(&position, *slot) as f64;
                let Some(known) = slots.get(*slot) else {
                    return (own, *slot);
                };
                let neighbours = if forward { &known.before } else { &known.after };
                let sum: f64 = neighbours.iter().map(|slot| at(&position, *slot) as f64).sum();
                let mean = if neighbours.is_empty() { own } else { sum / neighbours.len() as f64 };
                (mean, *slot)
            })
            .collect();
        // The sort is stable: slots with equal means keep their order.
        targets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        *column = targets.into_iter().map(|(_, slot)| slot).collect();
        for (place, slot) in column.iter().enumerate() {
            set(&mut position, *slot, place);
        }
    };
    if forward {
        columns.iter_mut().for_each(&mut visit);
    } else {
        columns.iter_mut().rev().for_each(&mut visit);
    }
}

/// Swaps adjacent slots where that reduces crossings, until no swap helps or the maximum number of
/// rounds is reached.
fn swap_neighbours(slots: &[Slot], columns: &mut [Vec<usize>]) {
    let mut position = positions(slots.len(), columns);
    for _ in 0..ROUNDS {
        let mut swapped = false;
        for column in columns.iter_mut() {
            for place in 1..column.len() {
                let pair = (column.get(place - 1).copied(), column.get(place).copied());
                let (Some(above), Some(below)) = pair else { continue };
                if between(slots, &position, below, above) < between(slots, &position, above, below)
                {
                    column.swap(place - 1, place);
                    set(&mut position, below, place - 1);
                    set(&mut position, above, place);
                    swapped = true;
                }
            }
        }
        if !swapped {
            return;
        }
    }
}

/// Number of crossings between the edges of two slots, the first above the second.
fn between(slots: &[Slot], position: &[usize], above: usize, below: usize) -> usize {
    let (Some(above), Some(below)) = (slots.get(above), slots.get(below)) else {
        return 0;
    };
    let count = |upper: &[usize], lower: &[usize]| {
        let crossed = |end: &usize| {
            lower.iter().filter(|other| at(position, **other) < at(position, *end)).count()
        };
        upper.iter().map(crossed).sum::<usize>()
    };
    count(&above.before, &below.before) + count(&above.after, &below.after)
}

fn positions(count: usize, columns: &[Vec<usize>]) -> Vec<usize> {
    let mut position = vec![0; count];
    for column in columns {
        for (place, slot) in column.iter().enumerate() {
            set(&mut position, *slot, place);
        }
    }
    position
}

/// Number of pairs of edges that cross.
fn crossings(slots: &[Slot], columns: &[Vec<usize>]) -> usize {
    let position = positions(slots.len(), columns);
    let mut crossings = 0;
    for column in columns {
        // Sorted ends of the edges above. An edge crosses those that end further down.
        let mut above: Vec<usize> = Vec::new();
        for slot in column {
            let after = slots.get(*slot).map_or(&[][..], |slot| &slot.after);
            let mut ends: Vec<usize> = after.iter().map(|end| at(&position, *end)).collect();
            ends.sort_unstable();
            crossings += ends
                .iter()
                .map(|end| above.len() - above.partition_point(|other| other <= end))
                .sum::<usize>();
            for end in ends {
                above.insert(above.partition_point(|other| *other <= end), end);
            }
        }
    }
    crossings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(layer: usize, before: &[usize], after: &[usize]) -> Slot {
        Slot { layer, before: before.to_vec(), after: after.to_vec(), ..Slot::default() }
    }

    #[test]
    fn avoidable_crossings_are_removed() {
        // The edges 0 to 3 and 1 to 2 cross in the initial order.
        let slots =
            [slot(0, &[], &[3]), slot(0, &[], &[2]), slot(1, &[1], &[]), slot(1, &[0], &[])];
        let crossed = vec![vec![0, 1], vec![2, 3]];
        assert_eq!(crossings(&slots, &crossed), 1);
        let ordered = order(&slots, &[0, 1, 2, 3]);
        assert_eq!(crossings(&slots, &ordered), 0);
        assert_eq!(ordered, [[0, 1], [3, 2]]);
    }
}
