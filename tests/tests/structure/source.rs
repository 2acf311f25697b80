//! Imports, names and definitions in the text of a module.
//!
//! Uses its own parser: `syn` as a dependency of a test would share crates with the derive macros,
//! and cargo would compile nearly everything twice.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

/// A path in the code, by segment.
pub(crate) type Name = Vec<String>;

/// Keywords before a name that the module defines.
const DEFINE: [&str; 8] = ["fn", "struct", "enum", "const", "static", "trait", "type", "union"];

/// One module, without its tests.
#[derive(Default)]
pub(crate) struct Source {
    /// Child modules; `None` for one in a separate file.
    pub(crate) modules: Vec<(String, Option<Self>)>,
    pub(crate) defined: BTreeSet<String>,
    /// Imported names, each with its path.
    pub(crate) imports: BTreeMap<String, Name>,
    pub(crate) globs: Vec<Name>,
    /// All paths, including those of `use`.
    pub(crate) paths: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Other(char),
}

impl Source {
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self::of(&tokens(&text))
    }

    fn of(mut tokens: &[Token]) -> Self {
        let mut found = Self::default();
        let mut depth = 0;
        while let Some((first, rest)) = tokens.split_first() {
            let all = tokens;
            tokens = rest;
            match first {
                Token::Other('#') => tokens = attribute(rest),
                Token::Other('{') => depth += 1,
                Token::Other('}') => depth -= 1,
                Token::Other(_) => {}
                // The rest of a path that does not begin with a module, as in `<T as Trait>::Item`.
                Token::Colons => tokens = path(rest).1,
                Token::Word(word) => match (word.as_str(), rest) {
                    // `pub(in crate::a)` names a module and imports nothing.
                    ("pub", [Token::Other('('), ..]) => tokens = split_group(rest).1,
                    ("use", [Token::Word(_) | Token::Other('{'), ..]) => {
                        tokens = found.uses(&[], rest)
                    }
                    ("mod", [Token::Word(name), Token::Other('{'), ..]) => {
                        let (inline, after) = split_group(&rest[1..]);
                        found.modules.push((name.clone(), Some(Self::of(inline))));
                        tokens = after;
                    }
                    ("mod", [Token::Word(name), ..]) => found.modules.push((name.clone(), None)),
                    ("macro_rules", [Token::Other('!'), Token::Word(name), ..]) => {
                        found.defined.insert(name.clone());
                    }
                    (keyword, [Token::Word(name), ..])
                        if depth == 0 && DEFINE.contains(&keyword) =>
                    {
                        found.defined.insert(name.clone());
                    }
                    _ => {
                        let (path, after) = path(all);
                        // One segment is a name in this module.
                        if path.len() > 1 {
                            found.paths.push(path);
                        }
                        tokens = after;
                    }
                },
            }
        }
        found
    }

    /// Parses one tree of a `use` and returns the remaining tokens.
    fn uses<'a>(&mut self, before: &[String], tokens: &'a [Token]) -> &'a [Token] {
        let (mut name, rest) = path(tokens);
        name.splice(0..0, before.iter().cloned());
        match rest {
            [Token::Other('*'), rest @ ..] => {
                self.paths.push(name.clone());
                self.globs.push(name);
                rest
            }
            [Token::Other('{'), ..] => {
                let (mut group, after) = split_group(rest);
                while !group.is_empty() {
                    group = match self.uses(&name, group) {
                        [Token::Other(','), rest @ ..] => rest,
                        rest => rest,
                    };
                }
                after
            }
            _ => {
                if name.last().is_some_and(|last| last == "self") {
                    name.pop();
                }
                let (alias, rest) = match rest {
                    [Token::Word(_), Token::Word(alias), rest @ ..] => (Some(alias), rest),
                    rest => (name.last(), rest),
                };
                self.imports.extend(alias.map(|alias| (alias.clone(), name.clone())));
                self.paths.push(name);
                rest
            }
        }
    }
}

/// Parses a path; returns it and the tokens after it and its last `::`.
fn path(tokens: &[Token]) -> (Name, &[Token]) {
    match tokens {
        [Token::Word(word), Token::Colons, rest @ ..] => {
            let (mut name, rest) = path(rest);
            name.insert(0, word.clone());
            (name, rest)
        }
        [Token::Word(word), rest @ ..] => (vec![word.clone()], rest),
        rest => (Vec::new(), rest),
    }
}

/// Splits at the end of the bracket that begins here.
fn split_group(tokens: &[Token]) -> (&[Token], &[Token]) {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Other('(' | '[' | '{') => depth += 1,
            Token::Other(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&tokens[1..at], &tokens[at + 1..]);
        }
    }
    panic!("unclosed bracket: {tokens:?}")
}

/// Skips an attribute after its `#`, and the attributed item if it exists only in tests.
fn attribute(tokens: &[Token]) -> &[Token] {
    let tokens = match tokens {
        [Token::Other('!'), rest @ ..] => rest,
        rest => rest,
    };
    if tokens.first() != Some(&Token::Other('[')) {
        return tokens;
    }
    let (content, rest) = split_group(tokens);
    let has = |word: &str| content.contains(&Token::Word(word.to_owned()));
    let name = path(content).0;
    let is_test = match name.last().map(String::as_str) {
        Some("cfg") => has("test") && !has("not"),
        last => last == Some("test"),
    };
    if is_test { after_item(rest) } else { rest }
}

fn after_item(mut tokens: &[Token]) -> &[Token] {
    while let Some((first, rest)) = tokens.split_first() {
        tokens = match first {
            Token::Other(';') => return rest,
            Token::Other('{') => return split_group(tokens).1,
            Token::Other('(' | '[') => split_group(tokens).1,
            _ => rest,
        };
    }
    tokens
}

/// The tokens of a file, without comments, literals and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => skip_line(&mut rest),
            '/' if rest.peek() == Some(&'*') => skip_block(&mut rest),
            '"' => skip_text(&mut rest),
            '\'' => skip_quoted(&mut rest),
            ':' if rest.next_if_eq(&':').is_some() => found.push(Token::Colons),
            c if c == '_' || c.is_alphanumeric() => {
                let mut word = String::from(c);
                while let Some(c) = rest.next_if(|c| *c == '_' || c.is_alphanumeric()) {
                    word.push(c);
                }
                if word.ends_with('r') && word.len() <= 2 && matches!(rest.peek(), Some('#' | '"'))
                {
                    skip_raw(&mut rest);
                } else {
                    found.push(Token::Word(word));
                }
            }
            c if c.is_whitespace() => {}
            c => found.push(Token::Other(c)),
        }
    }
    found
}

fn skip_line(rest: &mut Peekable<Chars<'_>>) {
    rest.find(|c| *c == '\n');
}

fn skip_block(rest: &mut Peekable<Chars<'_>>) {
    let (mut depth, mut before) = (1, ' ');
    rest.next();
    for c in rest {
        match (before, c) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        before = c;
    }
}

fn skip_text(rest: &mut Peekable<Chars<'_>>) {
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '"' => return,
            _ => {}
        }
    }
}

/// Skips a character literal or a lifetime.
fn skip_quoted(rest: &mut Peekable<Chars<'_>>) {
    match rest.next() {
        Some('\\') => {
            rest.next();
            rest.find(|c| *c == '\'');
        }
        Some(_) if rest.next_if_eq(&'\'').is_some() => {}
        _ => while rest.next_if(|c| *c == '_' || c.is_alphanumeric()).is_some() {},
    }
}

/// Skips a raw string after `r`, or a raw identifier.
fn skip_raw(rest: &mut Peekable<Chars<'_>>) {
    let mut hashes = 0;
    while rest.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    if rest.next_if_eq(&'"').is_none() {
        return;
    }
    let mut ending = None;
    for c in rest {
        ending = match (c, ending) {
            ('"', _) => Some(0),
            ('#', Some(seen)) => Some(seen + 1),
            _ => None,
        };
        if ending == Some(hashes) {
            return;
        }
    }
}
