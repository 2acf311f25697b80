//! Secrets in a worker: decrypted for the handler, sealed in everything that is published.

use concert_lang::spec::{Param, Params};
use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::seal::{SealError, Sealer, looks_sealed};
use serde_json::Value;

fn secrets(params: &Params) -> impl Iterator<Item = &Param> {
    params.params.iter().filter(|param| param.kind.is_secret())
}

/// Returns the input for the handler, with secrets in clear.
///
/// # Errors
/// A value in the form of a seal cannot be decrypted in this flow.
pub(crate) fn open(
    sealer: &Sealer,
    flow: FlowId,
    params: &Params,
    input: &Object,
) -> Result<Object, SealError> {
    let mut opened = input.clone();
    for param in secrets(params) {
        if let Some(value) = opened.get_mut(&*param.name)
            && let (true, Some(text)) = (looks_sealed(value), value.as_str())
        {
            *value = Value::String(sealer.open(flow, text)?.expose().to_owned());
        }
    }
    Ok(opened)
}

/// Returns the input for publishing: secrets are sealed, and keys that the spec does not name are
/// removed, because one may be a misspelt secret.
///
/// At a flow's root, no value is treated as sealed. Elsewhere a seal under an unknown key stays
/// unchanged, because the key may arrive later.
pub(crate) fn record(
    sealer: &Sealer,
    flow: FlowId,
    is_root: bool,
    params: &Params,
    input: &Object,
) -> Object {
    let named = |key: &str| params.params.iter().any(|param| &*param.name == key);
    let mut recorded: Object = input
        .iter()
        .filter(|(key, _)| params.open || named(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for param in secrets(params) {
        if let Some(value) = recorded.get_mut(&*param.name) {
            *value = sealed(sealer, flow, is_root, value);
        }
    }
    recorded
}

/// Seals the secrets of an output for publishing.
pub(crate) fn seal(sealer: &Sealer, flow: FlowId, params: &Params, output: &mut Object) {
    for param in secrets(params) {
        if let Some(Value::String(text)) = output.get_mut(&*param.name) {
            *text = sealer.seal(flow, text);
        }
    }
}

fn sealed(sealer: &Sealer, flow: FlowId, is_root: bool, value: &Value) -> Value {
    let Some(text) = value.as_str() else {
        // A value of another type in a secret's position is not published.
        return Value::Null;
    };
    match sealer.open(flow, text) {
        Ok(_) => value.clone(),
        Err(SealError::UnknownKey) if !is_root => value.clone(),
        Err(_) => Value::String(sealer.seal(flow, text)),
    }
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;
    use concert_wire::keyring::{Key, Keyring};
    use concert_wire::routes::ValueType;
    use serde_json::json;

    use super::*;

    fn params(open: bool) -> Params {
        let param = |name: &str, kind| Param { name: name.into(), optional: false, kind };
        Params {
            params: vec![
                param("username", ValueType::String),
                param("password", ValueType::Secret),
            ],
            open,
        }
    }

    fn sealer() -> Sealer {
        Sealer::new(Keyring::parse(&Key::new("k1", [3; 64]).to_line()).unwrap())
    }

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn possible_secret_is_never_recorded_in_clear() {
        let (sealer, flow) = (sealer(), ActionId::injected("S", 1, 1).as_root());
        for (password, clear) in [
            (json!("hunter22"), "hunter22"),
            (json!({"is": "hunter22"}), "hunter22"),
            (json!("sealed:k1:hunter22"), "hunter22"),
        ] {
            let input =
                object(json!({"username": "ada", "password": password, "pasword": "hunter22"}));
            let recorded = record(&sealer, flow, false, &params(false), &input);
            assert_eq!(recorded.get("username"), Some(&json!("ada")));
            assert!(!json!(recorded).to_string().contains(clear), "{recorded:?}");
        }
    }

    #[test]
    fn seal_under_an_unknown_key_is_not_sealed_again() {
        let (sealer, flow) = (sealer(), ActionId::injected("S", 1, 1).as_root());
        let later = Sealer::new(Keyring::parse(&Key::new("k2", [4; 64]).to_line()).unwrap());
        let input = object(json!({"username": "ada", "password": later.seal(flow, "hunter22")}));
        assert_eq!(record(&sealer, flow, false, &params(false), &input), input);
        // At a flow's root it is not treated as a seal.
        let recorded = record(&sealer, flow, true, &params(false), &input);
        let opened = open(&sealer, flow, &params(false), &recorded).unwrap();
        assert_eq!(opened, input);
    }

    #[test]
    fn sealed_value_stays_unchanged_and_opens() {
        let (sealer, flow) = (sealer(), ActionId::injected("S", 1, 1).as_root());
        let input = object(json!({"username": "ada", "password": sealer.seal(flow, "hunter22")}));
        assert_eq!(record(&sealer, flow, false, &params(false), &input), input);
        assert_eq!(
            open(&sealer, flow, &params(false), &input).unwrap().get("password"),
            Some(&json!("hunter22"))
        );
        let other = ActionId::injected("S", 2, 1).as_root();
        assert_eq!(open(&sealer, other, &params(false), &input), Err(SealError::Broken));
    }
}
