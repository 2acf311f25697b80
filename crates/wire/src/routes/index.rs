//! Lookup of the route of a request.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use percent_encoding::percent_decode_str;

use super::pattern::{Method, Pattern, Segment, segments};

/// Routes by method and segments.
#[derive(Debug, Clone, Default)]
pub struct RouteIndex {
    /// Literal paths of POST, which are not decoded.
    literals: HashSet<String>,
    by_method: BTreeMap<Method, Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    literals: HashMap<String, Node>,
    parameter: Option<Box<Node>>,
    /// Text of the pattern that ends here, and the names of its parameters.
    pattern: Option<(String, Vec<String>)>,
}

/// The route of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Text of the pattern.
    pub pattern: String,
    /// Parameters with their decoded values.
    pub parameters: Vec<(String, String)>,
}

impl RouteIndex {
    /// Builds an index of the texts of patterns. Ignores texts that are not patterns.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut index = Self::default();
        for text in patterns {
            let Ok(pattern) = Pattern::parse(text) else { continue };
            if text.starts_with('/') {
                index.literals.insert(text.to_owned());
            }
            let names = pattern.parameters().map(str::to_owned).collect();
            let mut node = index.by_method.entry(pattern.method).or_default();
            for segment in pattern.segments {
                node = match segment {
                    Segment::Literal(text) => node.literals.entry(text).or_default(),
                    Segment::Parameter(_) => &mut **node.parameter.get_or_insert_default(),
                };
            }
            node.pattern = Some((text.to_owned(), names));
        }
        index
    }

    /// Finds the most specific pattern for a path, which is percent-encoded and without the edge's
    /// base. Splits the path, and then decodes each segment once.
    pub fn find(&self, method: Method, path: &str) -> Option<Found> {
        if method == Method::Post && self.literals.contains(path) {
            return Some(Found { pattern: path.to_owned(), parameters: Vec::new() });
        }
        let rest = path.strip_prefix('/')?;
        let segments: Vec<Cow<'_, str>> =
            segments(rest).map(segment).collect::<Option<Vec<_>>>()?;
        let mut values = Vec::new();
        let (pattern, names) = self.by_method.get(&method)?.find(&segments, &mut values)?;
        // A literal path is only equal to itself: no other spelling of it is a request for it.
        if pattern.starts_with('/') {
            return None;
        }
        let values = values.into_iter().map(str::to_owned);
        Some(Found {
            pattern: pattern.clone(),
            parameters: names.iter().cloned().zip(values).collect(),
        })
    }

    /// The methods with which a path has a route.
    pub fn methods(&self, path: &str) -> Vec<Method> {
        Method::ALL.into_iter().filter(|method| self.find(*method, path).is_some()).collect()
    }
}

impl Node {
    /// Literal segments take precedence over parameters.
    fn find<'a>(
        &'a self,
        path: &'a [Cow<'_, str>],
        values: &mut Vec<&'a str>,
    ) -> Option<&'a (String, Vec<String>)> {
        let Some((first, rest)) = path.split_first() else { return self.pattern.as_ref() };
        if let Some(found) = self.literals.get(&**first).and_then(|node| node.find(rest, values)) {
            return Some(found);
        }
        let node = self.parameter.as_ref()?;
        values.push(first);
        let found = node.find(rest, values);
        if found.is_none() {
            values.pop();
        }
        found
    }
}

/// Decodes a segment. `None` for a segment that no route has: empty, a dot segment, or not text.
fn segment(text: &str) -> Option<Cow<'_, str>> {
    let decoded = decode(text)?;
    (!matches!(&*decoded, "" | "." | "..")).then_some(decoded)
}

/// Decodes a percent-encoded text once. `None` if an escape is malformed, or the result is not
/// UTF-8 or contains NUL.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    let is_escape = |rest: &str| {
        let mut digits = rest.bytes().take(2).filter(u8::is_ascii_hexdigit);
        digits.next().is_some() && digits.next().is_some()
    };
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().filter(|decoded| !decoded.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> RouteIndex {
        RouteIndex::new([
            "/login",
            "/odd:/:x",
            "GET /",
            "GET /articles/feed",
            "GET /articles/:slug",
            "GET /articles/:slug/comments",
            "PUT /articles/:slug",
            "POST /:any",
            "GET /x/:a/c",
            "GET /x/b/d",
        ])
    }

    #[track_caller]
    fn check(method: Method, path: &str, expected: &str) {
        let found = index().find(method, path).map(|Found { pattern, parameters }| {
            let named = parameters.iter().map(|(name, value)| format!(" {name}={value}"));
            format!("{pattern}{}", named.collect::<String>())
        });
        assert_eq!(found.unwrap_or_default(), expected, "{method} {path}");
    }

    #[test]
    fn most_specific_pattern_is_found() {
        check(Method::Get, "/", "GET /");
        check(Method::Get, "/articles/feed", "GET /articles/feed");
        check(Method::Get, "/articles/%66eed", "GET /articles/feed");
        check(Method::Get, "/articles/feeds", "GET /articles/:slug slug=feeds");
        check(Method::Get, "/articles/feed/comments", "GET /articles/:slug/comments slug=feed");
        check(Method::Put, "/articles/feed", "PUT /articles/:slug slug=feed");
        check(Method::Get, "/x/b/c", "GET /x/:a/c a=b");
        check(Method::Delete, "/articles/feed", "");
        assert_eq!(index().methods("/articles/feed"), [Method::Get, Method::Put]);
    }

    #[test]
    fn path_is_split_before_it_is_decoded_once() {
        check(Method::Get, "/articles/a%2Fb", "GET /articles/:slug slug=a/b");
        check(Method::Get, "/articles/%2525", "GET /articles/:slug slug=%25");
        check(Method::Get, "/articles/%C3%A4+%20", "GET /articles/:slug slug=ä+ ");
        for path in [
            "/articles/",
            "/articles//",
            "//articles/x",
            "/articles/x/",
            "/articles/.",
            "/articles/%2e%2E",
            "/articles/%00",
            "/articles/%",
            "/articles/%4",
            "/articles/%zz",
            "/articles/%C3",
            "articles/x",
            "",
        ] {
            check(Method::Get, path, "");
        }
    }

    #[test]
    fn literal_path_without_a_method_is_only_equal_to_itself() {
        check(Method::Post, "/login", "/login");
        check(Method::Post, "/odd:/:x", "/odd:/:x");
        check(Method::Post, "/odd:/y", "");
        // The pattern `POST /:any` does not get it either.
        check(Method::Post, "/log%69n", "");
        check(Method::Post, "/logout", "POST /:any any=logout");
        assert_eq!(index().methods("/login"), [Method::Post]);
    }

    /// All texts of up to three segments.
    fn texts(segments: [&str; 3]) -> Vec<String> {
        let longer = |texts: &[String]| {
            let pairs = texts.iter().flat_map(|text| segments.map(|next| format!("{text}/{next}")));
            pairs.collect::<Vec<_>>()
        };
        let one = longer(&[String::new()]);
        let two = longer(&one);
        [one, longer(&two), two].concat()
    }

    #[test]
    fn index_agrees_with_the_definition_for_all_pairs_of_patterns() {
        let unique = |text: &String| {
            let parts = text.split(":x").enumerate();
            let named = parts.map(|(number, part)| match number {
                0 => part.to_owned(),
                number => format!(":x{number}{part}"),
            });
            format!("GET {}", named.collect::<String>())
        };
        let patterns: Vec<String> = texts(["a", "b", ":x"]).iter().map(unique).collect();
        let matches = |pattern: &Pattern, path: &str| {
            let path: Vec<&str> = path.split('/').skip(1).collect();
            path.len() == pattern.segments.len()
                && pattern.segments.iter().zip(path).all(|(segment, text)| match segment {
                    Segment::Literal(literal) => literal == text,
                    Segment::Parameter(_) => true,
                })
        };
        let paths = texts(["a", "b", "c"]);
        for (number, a) in patterns.iter().enumerate() {
            for b in patterns.iter().skip(number + 1) {
                let parsed = [a, b].map(|text| Pattern::parse(text).unwrap());
                let both = paths.iter().find(|path| parsed.iter().all(|it| matches(it, path)));
                let index = RouteIndex::new([a.as_str(), b.as_str()]);
                let only = |this: usize, other: usize| {
                    let mut own = paths.iter().filter(|path| matches(&parsed[this], path));
                    own.any(|path| !matches(&parsed[other], path))
                };
                let is_conflict = both.is_some() && only(0, 1) == only(1, 0);
                assert_eq!(parsed[0].conflict(&parsed[1]).is_some(), is_conflict, "{a} {b}");
                for path in paths.iter().filter(|_| !is_conflict) {
                    let expected = match [matches(&parsed[0], path), matches(&parsed[1], path)] {
                        [false, false] => None,
                        [true, false] => Some(a),
                        [false, true] => Some(b),
                        // The one that matches nothing else is more specific.
                        [true, true] => Some(if only(0, 1) { b } else { a }),
                    };
                    let found = index.find(Method::Get, path).map(|found| found.pattern);
                    assert_eq!(found.as_ref(), expected, "{a} {b} {path}");
                }
            }
        }
    }
}
