//! Keys of nested objects: `user.email` is the member `email` of the member `user`. A rule cannot
//! write a dot in a key, so a dot always separates two keys.

use serde_json::{Map, Value};

/// Separates the keys of a path.
pub const SEPARATOR: char = '.';

/// Returns whether a key is a path into nested objects.
pub fn is_path(key: &str) -> bool {
    key.contains(SEPARATOR)
}

/// The key of the outermost object: `user` of `user.email`.
pub fn first(key: &str) -> &str {
    key.split_once(SEPARATOR).map_or(key, |(first, _)| first)
}

/// The key of the innermost object: `email` of `user.email`.
pub fn last(key: &str) -> &str {
    key.rsplit_once(SEPARATOR).map_or(key, |(_, last)| last)
}

/// The objects that a key is in, from the outermost: `a` and `a.b` of `a.b.c`.
pub fn objects(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices(SEPARATOR).filter_map(|(end, _)| key.get(..end))
}

/// The value at a key; `None` if it is absent or in no object.
pub fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    match key.split_once(SEPARATOR) {
        None => object.get(key),
        Some((first, rest)) => get(object.get(first)?.as_object()?, rest),
    }
}

/// As [`get`], to change the value.
pub fn get_mut<'a>(object: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Value> {
    match key.split_once(SEPARATOR) {
        None => object.get_mut(key),
        Some((first, rest)) => get_mut(object.get_mut(first)?.as_object_mut()?, rest),
    }
}

/// Inserts a value, and the objects that it is in. Replaces a value that is in the way.
pub fn insert(object: &mut Map<String, Value>, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once(SEPARATOR) else {
        object.insert(key.to_owned(), value);
        return;
    };
    let inner = object.entry(first).or_insert(Value::Null);
    if let Value::Object(inner) = inner {
        return insert(inner, rest, value);
    }
    let mut members = Map::new();
    insert(&mut members, rest, value);
    *inner = Value::Object(members);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_paths_into_objects() {
        let mut object = Map::new();
        for (key, value) in [("user.email", 1), ("user.style.font", 2), ("top", 3)] {
            insert(&mut object, key, json!(value));
        }
        assert_eq!(json!(object), json!({"user": {"email": 1, "style": {"font": 2}}, "top": 3}));
        assert_eq!(get(&object, "user.style.font"), Some(&json!(2)));
        for absent in ["user.style.size", "top.email", "email", "user.email.x"] {
            assert_eq!(get(&object, absent), None, "{absent}");
        }
        *get_mut(&mut object, "user.email").unwrap() = json!(null);
        assert_eq!(get(&object, "user.email"), Some(&json!(null)));
        insert(&mut object, "top.x", json!(4));
        assert_eq!(get(&object, "top"), Some(&json!({"x": 4})));
        assert_eq!(objects("a.b.c").collect::<Vec<_>>(), ["a", "a.b"]);
        assert_eq!([first("a.b.c"), last("a.b.c"), first("a"), last("a")], ["a", "c", "a", "a"]);
    }
}
