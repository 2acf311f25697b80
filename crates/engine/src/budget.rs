//! The limit of the work that matching rules may take.

/// The reason of a flow that used up its budget.
pub(crate) const TOO_MANY_JOIN_STEPS: &str = "the flow reached the limit of join steps";

/// Steps that a complete match takes: it is kept in memory, and gets an id.
pub(crate) const MATCH: usize = 50;

/// The budget is used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// Steps that may still be taken: comparing a completion with a pattern, reading a row, or passing
/// a frame through a step of `where`. Counting them makes a limit that every router reaches at the
/// same entry.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
}

impl Budget {
    pub(crate) const fn new(steps: usize) -> Self {
        Self { left: steps }
    }

    pub(crate) const fn left(&self) -> usize {
        self.left
    }

    /// Takes a number of steps.
    pub(crate) const fn spend(&mut self, steps: usize) -> Result<(), Exhausted> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Exhausted)
            }
        }
    }
}
