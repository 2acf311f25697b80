//! Source files and locations in them.

use serde::{Deserialize, Serialize};

/// Mark that some editors write before the text.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// One file of rules or specs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Displayed name.
    pub name: String,
    /// Contents.
    pub text: String,
}

/// Index of a file among those that are compiled together.
pub type FileId = usize;

/// Range of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: usize,
    /// End, exclusive.
    pub end: usize,
}

/// Line and column, counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl SourceFile {
    /// Creates a source file.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Offset of the start of the line, without a byte order mark.
    fn line_start(&self, offset: usize) -> usize {
        let mark =
            if self.text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
        self.before(offset).rfind('\n').map_or(mark, |at| at + 1)
    }

    fn before(&self, offset: usize) -> &str {
        self.text.get(..offset).unwrap_or(&self.text)
    }

    /// The line and column of an offset.
    pub fn position(&self, offset: usize) -> Position {
        let start = self.line_start(offset);
        let line = self.before(start).matches('\n').count() + 1;
        let column = self.text.get(start..offset).map_or(0, |text| text.chars().count()) + 1;
        Position { line, column }
    }

    /// Text of the line with this offset, without its line end.
    pub fn line(&self, offset: usize) -> &str {
        let rest = self.text.get(self.line_start(offset)..).unwrap_or_default();
        rest.split('\n').next().unwrap_or_default().trim_end_matches('\r')
    }
}

impl Span {
    /// Range from the start of this one to the end of `end`.
    #[must_use]
    pub fn to(self, end: Self) -> Self {
        Self { end: end.end.max(self.end), ..self }
    }

    /// Empty range directly after this one.
    #[must_use]
    pub fn after(self) -> Self {
        Self { start: self.end, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_in_characters_from_one() {
        let source = SourceFile::new("a.sync", "\u{feff}äb\r\n\tc\n");
        let check = |found: char, line, column| {
            let offset = source.text.find(found).unwrap();
            assert_eq!(source.position(offset), Position { line, column }, "{found}");
        };
        check('ä', 1, 1);
        check('b', 1, 2);
        check('c', 2, 2);
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(source.text.len()), Position { line: 3, column: 1 });
        assert_eq!(source.line(3), "äb");
    }
}
