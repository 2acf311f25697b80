//! Path patterns, such as `GET /articles/:slug`: a method, and segments that are literal or
//! parameters. A text that begins with `/` is a literal path of POST.

use std::fmt;

/// Methods of routes, in the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// DELETE
    Delete,
    /// GET; HEAD requests get the same response without a body.
    Get,
    /// PATCH
    Patch,
    /// POST
    Post,
    /// PUT
    Put,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 5] = [Self::Delete, Self::Get, Self::Patch, Self::Post, Self::Put];

    /// Name in requests and patterns.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// The method with this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Returns whether the keys of the query string are keys of the request.
    pub const fn takes_query(self) -> bool {
        matches!(self, Self::Get | Self::Delete)
    }

    /// Returns whether the edge reads the body.
    pub const fn takes_body(self) -> bool {
        !matches!(self, Self::Get)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Splits the text of a pattern into its method and its path. Without a method it is POST.
pub fn split(text: &str) -> (Method, &str) {
    let parts = text.split_once(' ').and_then(|(name, path)| Some((Method::of(name)?, path)));
    parts.unwrap_or((Method::Post, text))
}

/// The text of a pattern with its method and the URL prefix `base`, for people: `POST /api/login`.
pub fn with_base(text: &str, base: &str) -> String {
    let (method, path) = split(text);
    format!("{method} {base}{path}")
}

/// A path pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The method.
    pub method: Method,
    /// The segments; none for the path `/`.
    pub segments: Vec<Segment>,
}

/// A segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Equal to this text, after decoding.
    Literal(String),
    /// Any text; the value of this key.
    Parameter(String),
}

/// Errors in the text of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// It begins neither with `/` nor with a method.
    #[error("the path `{0}` does not begin with `/`")]
    NoSlash(String),
    /// The first word is not a method of routes.
    #[error("`{0}` is not a method of a path; use GET, POST, PUT, PATCH or DELETE")]
    Method(String),
    /// A segment is empty, `.` or `..`.
    #[error("the segment `{0}` cannot be in a path: no request has it")]
    Segment(String),
    /// A segment has a character that needs an escape in URLs, or a wildcard.
    #[error("the segment `{0}` has a character that a path cannot have")]
    Character(String),
    /// The name of a parameter is not a key.
    #[error("`:{0}` is not a parameter; its name must be letters, digits and `_`")]
    Parameter(String),
    /// A parameter has the name of another one or of the key `path`.
    #[error("the parameter `:{0}` has the name of another key of the request")]
    Repeated(String),
}

impl Pattern {
    /// Parses the text of a pattern.
    ///
    /// # Errors
    /// See [`BadPattern`]. A text that begins with `/` is always a pattern.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if let Some(path) = text.strip_prefix('/') {
            let segments = segments(path).map(|segment| Segment::Literal(segment.to_owned()));
            return Ok(Self { method: Method::Post, segments: segments.collect() });
        }
        let parts =
            text.split_once(' ').and_then(|(word, path)| Some((word, path.strip_prefix('/')?)));
        let Some((word, path)) = parts else {
            return Err(BadPattern::NoSlash(text.to_owned()));
        };
        let method = Method::of(word).ok_or_else(|| BadPattern::Method(word.to_owned()))?;
        let mut found: Vec<Segment> = Vec::new();
        for segment in segments(path) {
            let segment = parse_segment(segment)?;
            if let Segment::Parameter(name) = &segment
                && (name == "path" || found.contains(&segment))
            {
                return Err(BadPattern::Repeated(name.clone()));
            }
            found.push(segment);
        }
        Ok(Self { method, segments: found })
    }

    /// Names of the parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// A path that both patterns match, if neither is more specific. A pattern is more specific if
    /// it matches only paths that the other one matches as well, and not all of them.
    pub fn conflict(&self, other: &Self) -> Option<String> {
        if self.method != other.method || self.segments.len() != other.segments.len() {
            return None;
        }
        let (mut is_narrower, mut is_wider) = (false, false);
        let mut witness = String::new();
        for pair in self.segments.iter().zip(&other.segments) {
            let text = match pair {
                (Segment::Literal(a), Segment::Literal(b)) if a != b => return None,
                (Segment::Literal(text), Segment::Literal(_)) => text,
                (Segment::Literal(text), Segment::Parameter(_)) => {
                    is_narrower = true;
                    text
                }
                (Segment::Parameter(_), Segment::Literal(text)) => {
                    is_wider = true;
                    text
                }
                (Segment::Parameter(name), Segment::Parameter(_)) => name,
            };
            witness.push('/');
            witness.push_str(text);
        }
        if witness.is_empty() {
            witness.push('/');
        }
        (is_narrower == is_wider).then(|| format!("{} {witness}", self.method))
    }
}

/// The segments of a path without its first slash.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(move |_| !path.is_empty())
}

fn parse_segment(segment: &str) -> Result<Segment, BadPattern> {
    if matches!(segment, "" | "." | "..") {
        return Err(BadPattern::Segment(segment.to_owned()));
    }
    if let Some(name) = segment.strip_prefix(':') {
        let is_key = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        return match is_key {
            true => Ok(Segment::Parameter(name.to_owned())),
            false => Err(BadPattern::Parameter(name.to_owned())),
        };
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()+,;=@".contains(&b);
    match segment.bytes().all(is_plain) {
        true => Ok(Segment::Literal(segment.to_owned())),
        false => Err(BadPattern::Character(segment.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_pattern_is_rejected() {
        for (text, expected) in [
            ("GET /articles/:slug", ""),
            ("DELETE /", ""),
            ("/literal/:x//{y} z", ""),
            ("auth/login", "the path `auth/login` does not begin with `/`"),
            ("HEAD /a", "`HEAD` is not a method of a path; use GET, POST, PUT, PATCH or DELETE"),
            ("get /a", "`get` is not a method of a path; use GET, POST, PUT, PATCH or DELETE"),
            ("GET a", "the path `GET a` does not begin with `/`"),
            ("GET /a//b", "the segment `` cannot be in a path: no request has it"),
            ("GET /a/", "the segment `` cannot be in a path: no request has it"),
            ("GET /a/..", "the segment `..` cannot be in a path: no request has it"),
            ("GET /a/{b}", "the segment `{b}` has a character that a path cannot have"),
            ("GET /a/*", "the segment `*` has a character that a path cannot have"),
            ("GET /a b", "the segment `a b` has a character that a path cannot have"),
            ("GET /:a-b", "`:a-b` is not a parameter; its name must be letters, digits and `_`"),
            ("GET /:a/:a", "the parameter `:a` has the name of another key of the request"),
            ("GET /:path", "the parameter `:path` has the name of another key of the request"),
        ] {
            let found = Pattern::parse(text).err().map(|error| error.to_string());
            assert_eq!(found.unwrap_or_default(), expected, "{text}");
        }
    }

    #[test]
    fn patterns_conflict_if_neither_is_more_specific() {
        for (a, b, expected) in [
            ("GET /a/:x/c", "GET /a/b/:y", Some("GET /a/b/c")),
            ("GET /a/:x", "GET /a/:y", Some("GET /a/x")),
            ("POST /a", "/a", Some("POST /a")),
            ("POST /", "/", Some("POST /")),
            ("GET /a/:x", "GET /a/b", None),
            ("GET /a/:x", "PUT /a/:y", None),
            ("GET /a/:x", "GET /a/:x/c", None),
            ("GET /a/:x", "GET /b/:y", None),
        ] {
            let parsed = [a, b].map(|text| Pattern::parse(text).unwrap());
            assert_eq!(parsed[0].conflict(&parsed[1]).as_deref(), expected, "{a} {b}");
            assert_eq!(parsed[1].conflict(&parsed[0]).is_some(), expected.is_some(), "{b} {a}");
        }
    }
}
