//! Choice vectors, which determine runs.

/// Choices of a run, and the iteration over all runs: depth first, the first option of everything
/// first.
#[derive(Debug)]
pub(super) struct Choices {
    /// Chosen option and number of options, in order.
    taken: Vec<(usize, usize)>,
    at: usize,
    /// Maximum number of choices other than the first option in one run.
    most: usize,
}

impl Choices {
    /// All runs with at most this many choices other than the first option.
    pub(super) const fn with_at_most(most: usize) -> Self {
        Self { taken: Vec::new(), at: 0, most }
    }

    /// All runs.
    pub(super) const fn all() -> Self {
        Self::with_at_most(usize::MAX)
    }

    /// Chooses one of this many options.
    pub(super) fn choose(&mut self, options: usize) -> usize {
        if options < 2 {
            return 0;
        }
        let taken = match self.taken.get(self.at) {
            Some((taken, _)) => *taken,
            None => {
                self.taken.push((0, options));
                0
            }
        };
        self.at += 1;
        taken
    }

    /// Advances to the next run; returns `false` after the last one.
    pub(super) fn next_run(&mut self) -> bool {
        self.at = 0;
        while let Some((taken, options)) = self.taken.pop() {
            let others = self.taken.iter().filter(|(taken, _)| *taken > 0).count();
            if taken + 1 < options && others < self.most {
                self.taken.push((taken + 1, options));
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second choice exists only if the first one took its first option.
    fn seen(mut choices: Choices) -> Vec<(usize, usize, usize)> {
        let mut seen = Vec::new();
        loop {
            let first = choices.choose(2);
            let second = if first == 0 { choices.choose(3) } else { 0 };
            seen.push((first, second, choices.choose(2)));
            if !choices.next_run() {
                return seen;
            }
        }
    }

    #[test]
    fn every_choice_vector_is_visited_once() {
        let all = [
            (0, 0, 0),
            (0, 0, 1),
            (0, 1, 0),
            (0, 1, 1),
            (0, 2, 0),
            (0, 2, 1),
            (1, 0, 0),
            (1, 0, 1),
        ];
        assert_eq!(seen(Choices::all()), all);
    }

    #[test]
    fn runs_with_few_deviations_are_visited() {
        let few = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 2, 0), (1, 0, 0)];
        assert_eq!(seen(Choices::with_at_most(1)), few);
    }
}
