//! In which order things stand in their columns, so that few edges cross: each moves to the mean position of its neighbours, column after column, there and back.

use super::{Slot, at, set};

/// How often to go through the columns. More rarely helps.
const ROUNDS: usize = 16;

/// The columns of one part, each from top to bottom.
pub(super) fn order(slots: &[Slot], part: &[usize]) -> Vec<Vec<usize>> {
    let layer = |slot: usize| slots.get(slot).map_or(0, |slot| slot.layer);
    let count = part.iter().map(|slot| layer(*slot) + 1).max().unwrap_or(0);
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); count];
    for slot in part {
        if let Some(column) = columns.get_mut(layer(*slot)) {
            column.push(*slot);
        }
    }
    let mut best = columns.clone();
    let mut fewest = crossings(slots, &columns);
    for round in 0..ROUNDS {
        if fewest == 0 {
            break;
        }
        let forward = round % 2 == 0;
        sweep(slots, &mut columns, forward);
        let crossings = crossings(slots, &columns);
        if crossings < fewest {
            fewest = crossings;
            best.clone_from(&columns);
        }
    }
    best
}

fn sweep(slots: &[Slot], columns: &mut [Vec<usize>], forward: bool) {
    let mut position = positions(slots.len(), columns);
    let mut visit = |column: &mut Vec<usize>| {
        let mut wishes: Vec<(f64, usize)> = column
            .iter()
            .map(|slot| {
                let own = at(&position, *slot) as f64;
                let Some(known) = slots.get(*slot) else {
                    return (own, *slot);
                };
                let neighbours = if forward { &known.before } else { &known.after };
                let sum: f64 = neighbours.iter().map(|slot| at(&position, *slot) as f64).sum();
                let mean = if neighbours.is_empty() {
                    own
                } else {
                    sum / neighbours.len() as f64
                };
                (mean, *slot)
            })
            .collect();
        // The sort is stable: equal wishes keep their order.
        wishes.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        *column = wishes.into_iter().map(|(_, slot)| slot).collect();
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

fn positions(count: usize, columns: &[Vec<usize>]) -> Vec<usize> {
    let mut position = vec![0; count];
    for column in columns {
        for (place, slot) in column.iter().enumerate() {
            set(&mut position, *slot, place);
        }
    }
    position
}

/// How many pairs of edges cross.
fn crossings(slots: &[Slot], columns: &[Vec<usize>]) -> usize {
    let position = positions(slots.len(), columns);
    let mut crossings = 0;
    for column in columns {
        // Ends of the edges above, sorted: those further down than this edge's end are crossed by it.
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
        Slot {
            layer,
            before: before.to_vec(),
            after: after.to_vec(),
            ..Slot::default()
        }
    }

    #[test]
    fn edges_that_need_not_cross_do_not() {
        // 0 leads to 3, 1 to 2: they cross as they come.
        let slots = [
            slot(0, &[], &[3]),
            slot(0, &[], &[2]),
            slot(1, &[1], &[]),
            slot(1, &[0], &[]),
        ];
        let crossed = vec![vec![0, 1], vec![2, 3]];
        assert_eq!(crossings(&slots, &crossed), 1);
        let ordered = order(&slots, &[0, 1, 2, 3]);
        assert_eq!(crossings(&slots, &ordered), 0);
        assert_eq!(ordered, [[0, 1], [3, 2]]);
    }
}
