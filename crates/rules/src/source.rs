//! Source files and places in them.

/// One file of rules or specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name, as it is shown.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// The number of a file among those that are compiled together.
pub type FileId = usize;

/// A piece of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Where it begins.
    pub start: usize,
    /// Where it ends; what stands here belongs to it no more.
    pub end: usize,
}

/// A place as people count: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl SourceFile {
    /// A file.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// Where the line with this offset begins.
    fn line_start(&self, offset: usize) -> usize {
        self.before(offset).rfind('\n').map_or(0, |at| at + 1)
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

    /// The text of the line with this offset, without its end.
    pub fn line(&self, offset: usize) -> &str {
        let rest = self.text.get(self.line_start(offset)..).unwrap_or_default();
        rest.split('\n').next().unwrap_or_default().trim_end_matches('\r')
    }
}

impl Span {
    /// From the beginning of this piece to the end of another.
    #[must_use]
    pub fn to(self, end: Self) -> Self {
        Self {
            end: end.end.max(self.end),
            ..self
        }
    }

    /// The place just behind this piece.
    #[must_use]
    pub fn after(self) -> Self {
        Self {
            start: self.end,
            ..self
        }
    }
}
