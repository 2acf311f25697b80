//! The choices that make a run: a run is a function of them, so that every run can be made, and
//! made again.

/// A run's choices, and how to come to the next run: depth first, the first option of everything
/// first.
#[derive(Debug)]
pub(super) struct Choices {
    /// What was taken, and of how many options.
    taken: Vec<(usize, usize)>,
    at: usize,
    /// How often something else than the first option is taken in one run.
    most: usize,
}

impl Choices {
    /// All runs in which something else than the first option is taken at most so often.
    pub(super) const fn with_at_most(most: usize) -> Self {
        Self { taken: Vec::new(), at: 0, most }
    }

    /// All runs.
    pub(super) const fn all() -> Self {
        Self::with_at_most(usize::MAX)
    }

    /// Takes one of so many options.
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

    /// Goes on to the next run; `false` when there is none.
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

    /// The second choice is there only where the first took its first option.
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
    fn every_vector_of_choices_comes_once() {
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
    fn few_deviations_are_few_runs() {
        let few = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 2, 0), (1, 0, 0)];
        assert_eq!(seen(Choices::with_at_most(1)), few);
    }
}
