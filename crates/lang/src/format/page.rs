//! Shapes on lines that are not too long.

use super::shape::{Bracket, Call, Link, Note, Shape};

/// How long a line may be, in characters. Comments at its end do not count: they must not move what
/// they are about.
const WIDTH: usize = 100;
/// How far what stands within something is moved to the right.
pub(super) const INDENT: usize = 4;

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) text: String,
    /// Characters on the line that is being written.
    column: usize,
}

impl Page {
    fn write(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    /// Ends the line.
    pub(super) fn end_line(&mut self) {
        self.text.push('\n');
        self.column = 0;
    }

    /// Leaves a line free, if anything was written.
    pub(super) fn blank_line(&mut self) {
        if !self.text.is_empty() {
            self.end_line();
        }
    }

    fn indent(&mut self, indent: usize) {
        self.write(&" ".repeat(indent));
    }

    fn next_line(&mut self, indent: usize) {
        self.end_line();
        self.indent(indent);
    }

    /// A comment on a line of its own.
    pub(super) fn note(&mut self, note: &Note, indent: usize) {
        self.indent(indent);
        self.write(&note.text);
        self.end_line();
    }

    /// A statement, and the comment beside it.
    pub(super) fn statement(&mut self, shape: &Shape, indent: usize, beside: Option<&Note>) {
        self.indent(indent);
        self.shape(shape, indent, 0);
        self.beside(beside);
        self.end_line();
    }

    fn beside(&mut self, note: Option<&Note>) {
        if let Some(note) = note {
            self.write(" ");
            self.write(&note.text);
        }
    }

    /// Comments where the line ends anyway: the first may stand beside what it was beside.
    fn notes(&mut self, notes: &[Note], indent: usize) {
        let (beside, below) = split(notes);
        self.beside(beside);
        for note in below {
            self.next_line(indent);
            self.write(&note.text);
        }
    }

    fn fits(&self, width: usize) -> bool {
        self.column + width <= WIDTH
    }

    /// Writes a shape; `behind` is how much must stand on its last line behind it.
    fn shape(&mut self, shape: &Shape, indent: usize, behind: usize) {
        if let Some(flat) = shape.flat()
            && self.fits(width(&flat) + behind)
        {
            return self.write(&flat);
        }
        match shape {
            Shape::Text(text) => self.write(text),
            Shape::Prefixed(prefix, shape) => {
                self.write(prefix);
                self.shape(shape, indent, behind);
            }
            Shape::Suffixed(shape, suffix) => {
                self.shape(shape, indent, behind + width(suffix));
                self.write(suffix);
            }
            Shape::Chain(first, links) => self.chain(first, links, indent, behind),
            Shape::Bracket(bracket) => self.broken_bracket(bracket, indent),
            Shape::Call(call) => self.call(call, indent, behind),
        }
    }

    fn chain(&mut self, first: &Shape, links: &[Link], indent: usize, behind: usize) {
        let inner = indent + INDENT;
        let space_before =
            |link: Option<&Link>| link.map_or(behind, |link| 1 + width(&link.operator));
        self.shape(first, indent, space_before(links.first()));
        for (number, link) in links.iter().enumerate() {
            self.write(" ");
            self.write(&link.operator);
            self.notes(&link.notes, inner);
            self.next_line(inner);
            self.shape(&link.operand, inner, space_before(links.get(number + 1)));
        }
    }

    fn bracket(&mut self, bracket: &Bracket, indent: usize, behind: usize) {
        match bracket.flat() {
            Some(flat) if bracket.is_empty() || self.fits(width(&flat) + behind) => {
                self.write(&flat)
            }
            _ => self.broken_bracket(bracket, indent),
        }
    }

    /// One item a line.
    fn broken_bracket(&mut self, bracket: &Bracket, indent: usize) {
        if bracket.is_empty() {
            self.write(&bracket.open);
            return self.write(&bracket.close);
        }
        let inner = indent + INDENT;
        self.write(&bracket.open);
        self.notes(&bracket.notes, inner);
        for item in &bracket.items {
            let comma = if bracket.is_list { "," } else { "" };
            self.next_line(inner);
            self.shape(&item.shape, inner, comma.len());
            self.write(comma);
            self.notes(&item.notes, inner);
        }
        self.next_line(indent);
        self.write(&bracket.close);
    }

    /// A call that does not stand on one line: the wider of its brackets is broken, and the other
    /// one if that is not enough.
    fn call(&mut self, call: &Call, indent: usize, behind: usize) {
        self.write(&call.target);
        self.write(" ");
        let Some(output) = &call.output else {
            return self.bracket(&call.input, indent, behind);
        };
        if !call.notes.is_empty() {
            // A line may end before the colon, and a comment makes it.
            let inner = indent + INDENT;
            self.bracket(&call.input, indent, 0);
            self.notes(&call.notes, inner);
            self.next_line(inner);
            self.write(": ");
            return self.bracket(output, inner, behind);
        }
        let flat_input = call.input.flat();
        let (input, flat_output) = (flat_input.as_deref().map_or(0, width), output.flat());
        let has_wider_input = flat_output.is_some_and(|flat| width(&flat) <= input);
        if flat_input.is_none() || has_wider_input {
            self.broken_bracket(&call.input, indent);
        } else {
            self.bracket(&call.input, indent, width(" : ("));
        }
        self.write(" : ");
        self.bracket(output, indent, behind);
    }
}

/// The comment that stands beside what is before it, and those that stand below.
pub(super) fn split(notes: &[Note]) -> (Option<&Note>, &[Note]) {
    match notes.split_first() {
        Some((first, rest)) if !first.is_alone => (Some(first), rest),
        _ => (None, notes),
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}
