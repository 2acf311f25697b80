//! What was written, without its line breaks: what can be broken, and where a comment stands that
//! must be kept.

/// A comment as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// With its slashes, without blanks at its end.
    pub(super) text: String,
    /// Whether nothing stood before it on its line.
    pub(super) is_alone: bool,
    /// Whether it did not stand at the margin.
    pub(super) is_indented: bool,
    /// The line it stood on.
    pub(super) line: usize,
}

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// What is never broken.
    Text(String),
    /// `name: ` or `let x = ` and what follows.
    Prefixed(String, Box<Self>),
    /// Something and `.field` or ` as rows` behind it.
    Suffixed(Box<Self>, String),
    /// Operands with operators between them.
    Chain(Box<Self>, Vec<Link>),
    /// Something in brackets.
    Bracket(Bracket),
    /// `Concept.name (input) : (output)`.
    Call(Call),
}

/// An operator and what follows it. A line may end behind an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) operator: String,
    pub(super) notes: Vec<Note>,
    pub(super) operand: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bracket {
    pub(super) open: String,
    /// Comments behind the opening bracket.
    pub(super) notes: Vec<Note>,
    pub(super) items: Vec<Item>,
    pub(super) close: String,
    /// Whether it is a list, whose last item may have a comma.
    pub(super) is_list: bool,
}

/// An item and the comments behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) shape: Shape,
    pub(super) notes: Vec<Note>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) target: String,
    pub(super) input: Bracket,
    /// Comments before the colon.
    pub(super) notes: Vec<Note>,
    pub(super) output: Option<Bracket>,
}

impl Shape {
    /// On one line; `None` if a comment keeps it from that.
    pub(super) fn flat(&self) -> Option<String> {
        Some(match self {
            Self::Text(text) => text.clone(),
            Self::Prefixed(prefix, shape) => format!("{prefix}{}", shape.flat()?),
            Self::Suffixed(shape, suffix) => format!("{}{suffix}", shape.flat()?),
            Self::Chain(first, links) => {
                let mut text = first.flat()?;
                for link in links.iter().map(Link::flat) {
                    text.push_str(&link?);
                }
                text
            }
            Self::Bracket(bracket) => bracket.flat()?,
            Self::Call(call) => {
                let output = match &call.output {
                    Some(output) if call.notes.is_empty() => format!(" : {}", output.flat()?),
                    Some(_) => return None,
                    None => String::new(),
                };
                format!("{} {}{output}", call.target, call.input.flat()?)
            }
        })
    }
}

impl Link {
    fn flat(&self) -> Option<String> {
        let operand = self.operand.flat().filter(|_| self.notes.is_empty())?;
        Some(format!(" {} {operand}", self.operator))
    }
}

impl Bracket {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.notes.is_empty()
    }

    pub(super) fn flat(&self) -> Option<String> {
        let items: Option<Vec<String>> = self
            .items
            .iter()
            .map(|item| item.shape.flat().filter(|_| item.notes.is_empty()))
            .collect();
        let items = items.filter(|_| self.notes.is_empty())?.join(", ");
        Some(format!("{}{items}{}", self.open, self.close))
    }
}

/// Where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `sync Name`.
    Rule,
    /// `when`, `where`, `then`, `else (error)`.
    Part,
    /// A pattern, a step or a call.
    Item,
    /// The `else` of a step.
    Otherwise,
}

/// What ends with its line.
#[derive(Debug)]
pub(super) struct Statement {
    /// The comments on the lines above it.
    pub(super) above: Vec<Note>,
    /// The line on which it began.
    pub(super) line: usize,
    pub(super) place: Place,
    pub(super) shape: Shape,
    /// The comment behind it.
    pub(super) beside: Option<Note>,
}
