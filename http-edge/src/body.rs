//! Validates the body of a request against the route table.

use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::large::any_text;
use concert_wire::nested;
use concert_wire::routes::Route;
use concert_wire::seal::{Sealer, is_seal};
use serde_json::Value;

use crate::error::{EdgeError, Misfit, Misfits};

/// Keeps the keys that the path's rules name and checks their types. Other keys are dropped,
/// because one may be a misspelt password, which must not be stored. `max_chars` is the maximum
/// length of strings whose type declares none.
///
/// # Errors
/// All missing and invalid keys, without their values.
pub(crate) fn fit(
    route: &Route,
    mut body: Object,
    max_chars: Option<u32>,
) -> Result<Object, EdgeError> {
    let mut fitting = Object::new();
    let mut errors: Vec<Misfit> = Vec::new();
    for (name, key) in &route.keys {
        let is_value = |object: &&str| nested::get(&body, object).is_some_and(|v| !v.is_object());
        if let Some(object) = nested::objects(name).find(is_value) {
            let misfit = Misfit::new(object, "must be an object");
            if !errors.contains(&misfit) {
                errors.push(misfit);
            }
            continue;
        }
        // INVARIANT: no key is inside another one, so each value is taken once.
        match nested::get_mut(&mut body, name) {
            Some(value) if !key.secret && holds_seal(value) => {
                errors.push(Misfit::new(name, NO_SEAL));
            }
            Some(value) => match key.kind.check(value, max_chars) {
                Ok(()) => nested::insert(&mut fitting, name, value.take()),
                Err(found) => errors.push(Misfit::within(name, &found)),
            },
            None if key.required => errors.push(Misfit::new(name, "is missing")),
            None => {}
        }
    }
    if errors.is_empty() { Ok(fitting) } else { Err(EdgeError::Misfit(Misfits(errors))) }
}

/// True if a value contains a text in the form of a seal. In a response, it would look like an
/// encrypted secret. Secrets may have this form, because they are encrypted themselves.
pub(crate) fn holds_seal(value: &Value) -> bool {
    any_text(value, &is_seal)
}

/// The problem of a value that has the form of an encrypted secret.
pub(crate) const NO_SEAL: &str = "must not have the form of a sealed value";

/// Encrypts (seals) the secrets of a valid body. A value that already has the form of a seal is
/// sealed again, so a seal copied from the log is not a credential.
pub(crate) fn seal(route: &Route, sealer: &Sealer, flow: FlowId, body: &mut Object) {
    for (name, _) in route.keys.iter().filter(|(_, key)| key.secret) {
        if let Some(Value::String(text)) = nested::get_mut(body, name) {
            *text = sealer.seal(flow, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;
    use concert_wire::keyring::{Key, Keyring};
    use concert_wire::routes::{RouteKey, ValueType};
    use serde_json::json;

    use super::*;

    fn login() -> Route {
        let key = |secret, kind| RouteKey { required: true, secret, kind };
        let keys = [
            ("username", key(false, ValueType::String)),
            ("password", key(true, ValueType::Secret)),
        ];
        Route { keys: keys.into_iter().map(|(name, key)| (name.to_owned(), key)).collect() }
    }

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn all_errors_are_listed_without_values() {
        let body = object(json!({"username": {"$ne": null}, "pasword": "hunter22"}));
        let error = fit(&login(), body, None).unwrap_err();
        let expected = "`password` is missing; `username` must be a string";
        assert_eq!(error.to_string(), expected);
        for wrong in [json!(1), json!(null), json!({"$ne": null}), json!(["x"]), json!(true)] {
            let body = object(json!({"username": "ada", "password": wrong}));
            assert!(fit(&login(), body, None).is_err());
        }
    }

    #[test]
    fn unknown_key_is_dropped() {
        let body = object(
            json!({"username": "ada", "password": "x", "pasword": "y", "path": "/auth/logout"}),
        );
        assert_eq!(
            Value::Object(fit(&login(), body, None).unwrap()),
            json!({"username": "ada", "password": "x"})
        );
    }

    #[test]
    fn only_secrets_may_look_like_seals() {
        let seal = format!("sealed:k9:{}", "A".repeat(64));
        let body = object(json!({"username": seal, "password": seal}));
        let refused = fit(&login(), body, None).unwrap_err().to_string();
        assert_eq!(refused, "`username` must not have the form of a sealed value");
        let body = object(json!({"username": "sealed: ada", "password": seal}));
        assert!(fit(&login(), body, None).is_ok());
        assert!(holds_seal(&json!([{ "deep": [seal] }])));
    }

    #[test]
    fn lengths_of_strings_are_limited() {
        let mut route = login();
        let kind = ValueType::BoundedString(3);
        route.keys.get_mut("username").unwrap().kind = kind;
        let check = |username: &str, password: &str, expected: &str| {
            let body = object(json!({"username": username, "password": password}));
            let found = fit(&route, body, Some(5)).err().map(|error| error.to_string());
            assert_eq!(found.unwrap_or_default(), expected);
        };
        check("äöü", "12345", "");
        check("ada1", "12345", "`username` must be a string of at most 3 characters");
        check("ada", "123456", "`password` must be a string of at most 5 characters");
    }

    #[test]
    fn nested_keys_are_found_checked_and_sealed() {
        let key = |required, secret, kind| RouteKey { required, secret, kind };
        let keys = [
            ("user.bio", key(false, false, ValueType::Nullable(Box::new(ValueType::String)))),
            ("user.name", key(true, false, ValueType::String)),
            ("user.login.password", key(true, true, ValueType::Secret)),
        ];
        let route = Route { keys: keys.map(|(name, key)| (name.to_owned(), key)).into() };
        for (body, expected) in [
            (json!({}), "`user.login.password` is missing; `user.name` is missing"),
            (json!({"user": null}), "`user` must be an object"),
            (json!({"user.name": "a", "user": []}), "`user` must be an object"),
            (json!({"user": {"name": 1, "login": 2}}), LOGIN_OF_NO_OBJECT),
        ] {
            assert_eq!(fit(&route, object(body), None).unwrap_err().to_string(), expected);
        }
        let login = json!({"password": "x", "user": 1});
        let body = json!({"user": {"bio": null, "name": "a", "login": login, "more": 1}, "b": 2});
        let mut fitting = fit(&route, object(body), None).unwrap();
        let expected = json!({"user": {"bio": null, "login": {"password": "x"}, "name": "a"}});
        assert_eq!(json!(fitting), expected);
        let sealer = Sealer::new(Keyring::parse(&Key::new("k1", [1; 64]).to_line()).unwrap());
        let flow = ActionId::injected("S", 1, 1).as_root();
        seal(&route, &sealer, flow, &mut fitting);
        let sealed = nested::get(&fitting, "user.login.password").and_then(Value::as_str).unwrap();
        assert_eq!(sealer.open(flow, sealed).unwrap().expose(), "x");
    }

    const LOGIN_OF_NO_OBJECT: &str = "`user.login` must be an object; `user.name` must be a string";

    #[test]
    fn copied_seal_is_sealed_again() {
        let sealer = Sealer::new(Keyring::parse(&Key::new("k1", [1; 64]).to_line()).unwrap());
        let flow = ActionId::injected("S", 1, 1).as_root();
        let copied = sealer.seal(flow, "hunter22");
        let mut body = object(json!({"username": "ada", "password": copied}));
        seal(&login(), &sealer, flow, &mut body);
        let sealed = body.get("password").and_then(Value::as_str).unwrap();
        assert_eq!(sealer.open(flow, sealed).unwrap().expose(), copied);
    }
}
