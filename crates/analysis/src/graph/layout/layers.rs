//! Assigns each node a column after all its predecessors. In a cycle, one edge runs backwards.

use super::shapes::{at, change, set};

/// Columns of the nodes, and which edges run backwards.
#[derive(Debug, Default)]
pub(super) struct Layering {
    pub(super) layer: Vec<usize>,
    pub(super) reversed: Vec<bool>,
}

/// Assigns each of `count` nodes its column.
pub(super) fn assign(count: usize, edges: &[(usize, usize)]) -> Layering {
    let reversed = back_edges(count, edges);
    let forward: Vec<(usize, usize)> = edges
        .iter()
        .zip(&reversed)
        .map(|(&(from, to), back)| if *back { (to, from) } else { (from, to) })
        .collect();
    let mut layer = longest_paths(count, &forward);
    // Move nodes without predecessors next to their successors.
    let led_to: Vec<usize> = forward.iter().map(|(_, to)| *to).collect();
    for node in (0..count).filter(|node| !led_to.contains(node)) {
        let next =
            forward.iter().filter(|(from, _)| *from == node).map(|(_, to)| at(&layer, *to)).min();
        if let Some(next) = next {
            set(&mut layer, node, next.saturating_sub(1));
        }
    }
    Layering { layer, reversed }
}

/// Edges that close a cycle. INVARIANT: no edge leads from a node to itself, because one end of
/// every link is a rule or an outcome.
fn back_edges(count: usize, edges: &[(usize, usize)]) -> Vec<bool> {
    #[derive(Clone, Copy, Default, PartialEq)]
    enum Seen {
        #[default]
        No,
        OnTheWay,
        Done,
    }
    let mut back = vec![false; edges.len()];
    let mut seen = vec![Seen::No; count];
    let mut leaving: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count];
    let mut is_led_to = vec![false; count];
    for (number, (from, to)) in edges.iter().enumerate() {
        set(&mut is_led_to, *to, true);
        if let Some(list) = leaving.get_mut(*from) {
            list.push((number, *to));
        }
    }
    let (roots, others): (Vec<usize>, Vec<usize>) =
        (0..count).partition(|node| !at(&is_led_to, *node));
    for start in roots.into_iter().chain(others) {
        if at(&seen, start) != Seen::No {
            continue;
        }
        set(&mut seen, start, Seen::OnTheWay);
        let mut way = vec![(start, 0)];
        while let Some((node, next)) = way.last_mut() {
            let edge = leaving.get(*node).and_then(|list| list.get(*next)).copied();
            *next += 1;
            match edge {
                None => {
                    set(&mut seen, *node, Seen::Done);
                    way.pop();
                }
                Some((number, to)) => match at(&seen, to) {
                    Seen::No => {
                        set(&mut seen, to, Seen::OnTheWay);
                        way.push((to, 0));
                    }
                    Seen::OnTheWay => set(&mut back, number, true),
                    Seen::Done => {}
                },
            }
        }
    }
    back
}

/// Length of the longest path to each node. INVARIANT: there is no cycle, because back edges are
/// reversed.
fn longest_paths(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layer = vec![0; count];
    let mut missing = vec![0_usize; count];
    let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (from, to) in edges {
        change(&mut missing, *to, |missing| missing + 1);
        if let Some(list) = leaving.get_mut(*from) {
            list.push(*to);
        }
    }
    let mut ready: Vec<usize> = (0..count).filter(|node| at(&missing, *node) == 0).collect();
    while let Some(node) = ready.pop() {
        for to in leaving.get(node).into_iter().flatten() {
            let behind = at(&layer, node) + 1;
            change(&mut layer, *to, |layer| layer.max(behind));
            change(&mut missing, *to, |missing| missing.saturating_sub(1));
            if at(&missing, *to) == 0 {
                ready.push(*to);
            }
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(count: usize, edges: &[(usize, usize)], layers: &[usize], reversed: &[usize]) {
        let found = assign(count, edges);
        assert_eq!(found.layer, layers);
        let back: Vec<usize> = (0..edges.len()).filter(|edge| found.reversed[*edge]).collect();
        assert_eq!(back, reversed);
    }

    #[test]
    fn node_is_after_all_predecessors() {
        check(4, &[(0, 1), (1, 2), (0, 2), (2, 3)], &[0, 1, 2, 3], &[]);
    }

    #[test]
    fn source_is_directly_before_its_successor() {
        check(4, &[(0, 1), (1, 2), (3, 2)], &[0, 1, 2, 1], &[]);
    }

    #[test]
    fn one_edge_of_a_cycle_runs_back() {
        check(3, &[(0, 1), (1, 2), (2, 0)], &[0, 1, 2], &[2]);
        check(2, &[(0, 1), (1, 0)], &[0, 1], &[1]);
    }
}
