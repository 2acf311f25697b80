//! Layout of shapes on lines of limited width.

use super::shape::{Bracket, Call, Link, Note, Shape};

/// Maximum line width in characters. Comments at the end of a line do not count, because moving
/// them would separate them from their subject.
const WIDTH: usize = 100;
/// Indentation of one level.
pub(super) const INDENT: usize = 4;

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) text: String,
    /// Characters on the current line.
    column: usize,
}

impl Page {
    fn write(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    /// Ends the current line.
    pub(super) fn end_line(&mut self) {
        self.text.push('\n');
        self.column = 0;
    }

    /// Writes a blank line, unless the page is empty.
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

    /// Writes a comment on its own line.
    pub(super) fn note(&mut self, note: &Note, indent: usize) {
        self.indent(indent);
        self.write(&note.text);
        self.end_line();
    }

    /// Writes a statement and its trailing comment.
    pub(super) fn statement(&mut self, shape: &Shape, indent: usize, trailing: Option<&Note>) {
        self.indent(indent);
        self.shape(shape, indent, 0);
        self.trailing(trailing);
        self.end_line();
    }

    fn trailing(&mut self, note: Option<&Note>) {
        if let Some(note) = note {
            self.write(" ");
            self.write(&note.text);
        }
    }

    /// Writes comments where the line ends anyway; the first may be a trailing comment.
    fn notes(&mut self, notes: &[Note], indent: usize) {
        let (trailing, below) = split(notes);
        self.trailing(trailing);
        for note in below {
            self.next_line(indent);
            self.write(&note.text);
        }
    }

    fn fits(&self, width: usize) -> bool {
        self.column + width <= WIDTH
    }

    /// Writes a shape; `behind` is the width of the text that must follow on its last line.
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

    /// Writes one item per line.
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

    /// Writes a call that does not fit on one line. Breaks the wider of its brackets, and the other
    /// one if necessary.
    fn call(&mut self, call: &Call, indent: usize, behind: usize) {
        self.write(&call.target);
        self.write(" ");
        let Some(output) = &call.output else {
            return self.bracket(&call.input, indent, behind);
        };
        if !call.notes.is_empty() {
            // The comment forces a line break before the colon.
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

/// Splits comments into the trailing one and those on following lines.
pub(super) fn split(notes: &[Note]) -> (Option<&Note>, &[Note]) {
    match notes.split_first() {
        Some((first, rest)) if !first.is_alone => (Some(first), rest),
        _ => (None, notes),
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}
