//! Statements without their line breaks: the parts that can be broken, and the comments to keep.

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// Text with its slashes, without trailing white space.
    pub(super) text: String,
    /// `true` if it is the only text on its line.
    pub(super) is_alone: bool,
    /// `true` if it is indented.
    pub(super) is_indented: bool,
    /// Line in the source.
    pub(super) line: usize,
}

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Text that is never broken.
    Text(String),
    /// A prefix, such as `name: ` or `let x = `, and the rest.
    Prefixed(String, Box<Self>),
    /// A shape and a suffix, such as `.field` or ` as rows`.
    Suffixed(Box<Self>, String),
    /// Operands with operators between them.
    Chain(Box<Self>, Vec<Link>),
    /// A list of items in brackets.
    Bracket(Bracket),
    /// `Concept.name (input) : (output)`.
    Call(Call),
}

/// An operator and its right operand. A line may end after an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) operator: String,
    pub(super) notes: Vec<Note>,
    pub(super) operand: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bracket {
    pub(super) open: String,
    /// Comments after the opening bracket.
    pub(super) notes: Vec<Note>,
    pub(super) items: Vec<Item>,
    pub(super) close: String,
    /// `true` if it is a list, whose last item may have a comma.
    pub(super) is_list: bool,
}

/// An item and the comments after it.
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
    /// The shape on one line; `None` if a comment prevents it.
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

/// Position of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `header "Name: Scheme" as key`.
    Header,
    /// `sync Name`.
    Rule,
    /// `when`, `where`, `then`, `else (error)`.
    Part,
    /// A pattern, a step or a call.
    Item,
    /// The `else` of a step.
    ElseBranch,
}

/// A statement, which ends at the end of its line.
#[derive(Debug)]
pub(super) struct Statement {
    /// Comments on the lines above it.
    pub(super) above: Vec<Note>,
    /// Line of its first token.
    pub(super) line: usize,
    pub(super) place: Place,
    pub(super) shape: Shape,
    /// Trailing comment.
    pub(super) trailing: Option<Note>,
}
