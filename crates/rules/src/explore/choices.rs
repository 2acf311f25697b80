//! The choices that make a run: a run is a function of them, so that every run can be made, and made again.

/// A run's choices, and how to come to the next run: depth first, the first option of everything first.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// What was taken, and of how many options.
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
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
            if taken + 1 < options {
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

    #[test]
    fn every_vector_of_choices_comes_once() {
        let mut choices = Choices::default();
        let mut seen = Vec::new();
        loop {
            // The second choice is there only where the first took its first option.
            let first = choices.choose(2);
            let second = if first == 0 { choices.choose(3) } else { 0 };
            seen.push((first, second, choices.choose(1)));
            if !choices.next_run() {
                break;
            }
        }
        assert_eq!(seen, [(0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 0, 0)]);
    }
}
