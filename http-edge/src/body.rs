//! The body of a request, as the route table wants it.

use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::routes::Route;
use concert_wire::seal::{Sealer, is_seal};
use serde_json::Value;

use crate::error::EdgeError;

/// The keys that the path's rules name, each of its type. Other keys are dropped: a misspelt
/// password must not rest in the log.
///
/// # Errors
/// Names every missing and ill-typed key at once. No value is repeated.
pub(crate) fn fit(route: &Route, mut body: Object) -> Result<Object, EdgeError> {
    let mut fitting = Object::new();
    let mut mistakes = Vec::new();
    for (name, key) in &route.keys {
        match body.swap_remove(name) {
            Some(value) if !key.secret && holds_seal(&value) => mistakes.push(no_seal(name)),
            Some(value) if key.kind.accepts(&value) => {
                fitting.insert(name.clone(), value);
            }
            Some(_) => mistakes.push(format!("`{name}` must be {}", key.kind.describe())),
            None if key.required => mistakes.push(format!("`{name}` is missing")),
            None => {}
        }
    }
    if mistakes.is_empty() { Ok(fitting) } else { Err(EdgeError::BadRequest(mistakes.join("; "))) }
}

/// Whether a value, or one in it, might be taken for a secret that was sealed here when it comes
/// back in an answer. A secret may: it is sealed itself.
pub(crate) fn holds_seal(value: &Value) -> bool {
    match value {
        Value::String(text) => is_seal(text),
        Value::Array(values) => values.iter().any(holds_seal),
        Value::Object(members) => members.values().any(holds_seal),
        _ => false,
    }
}

/// What is said of such a value.
pub(crate) fn no_seal(name: &str) -> String {
    format!("`{name}` must not have the form of a sealed value")
}

/// Seals the secrets of a fitting body. What has the form of a sealed value already is sealed
/// again, so that one copied from the log is no credential.
pub(crate) fn seal(route: &Route, sealer: &Sealer, flow: FlowId, body: &mut Object) {
    for (name, _) in route.keys.iter().filter(|(_, key)| key.secret) {
        if let Some(Value::String(text)) = body.get_mut(name) {
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
    fn every_mistake_is_named_at_once_and_no_value_is_repeated() {
        let error =
            fit(&login(), object(json!({"username": {"$ne": null}, "pasword": "hunter22"})))
                .unwrap_err();
        assert_eq!(
            error,
            EdgeError::BadRequest("`password` is missing; `username` must be a string".into())
        );
        for wrong in [json!(1), json!(null), json!({"$ne": null}), json!(["x"]), json!(true)] {
            assert!(fit(&login(), object(json!({"username": "ada", "password": wrong}))).is_err());
        }
    }

    #[test]
    fn a_key_that_no_rule_names_is_dropped() {
        let body = object(
            json!({"username": "ada", "password": "x", "pasword": "hunter22", "path": "/auth/logout"}),
        );
        assert_eq!(
            Value::Object(fit(&login(), body).unwrap()),
            json!({"username": "ada", "password": "x"})
        );
    }

    #[test]
    fn only_a_secret_may_have_the_form_of_a_sealed_value() {
        let seal = format!("sealed:k9:{}", "A".repeat(64));
        let body = object(json!({"username": seal, "password": seal}));
        let refused = fit(&login(), body).unwrap_err().to_string();
        assert_eq!(refused, "`username` must not have the form of a sealed value");
        assert!(
            fit(&login(), object(json!({"username": "sealed: ada", "password": seal}))).is_ok()
        );
        assert!(holds_seal(&json!([{ "deep": [seal] }])));
    }

    #[test]
    fn a_sealed_value_from_elsewhere_is_sealed_again() {
        let sealer = Sealer::new(Keyring::parse(&Key::new("k1", [1; 64]).to_line()).unwrap());
        let flow = ActionId::injected("S", 1, 1).as_root();
        let copied = sealer.seal(flow, "hunter22");
        let mut body = object(json!({"username": "ada", "password": copied}));
        seal(&login(), &sealer, flow, &mut body);
        let sealed = body.get("password").and_then(Value::as_str).unwrap();
        assert_eq!(sealer.open(flow, sealed).unwrap().expose(), copied);
    }
}
