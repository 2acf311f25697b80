//! The part of a spec that programs depend on, and its hash.

use concert_wire::value::canonical;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ActionSpec, ConceptSpec, Params, QuerySpec, Rows};

impl ConceptSpec {
    /// The signatures as JSON, without prose. The order of actions, queries and parameters in the
    /// text has no effect (`docs/wire.md`).
    pub fn signature(&self) -> Value {
        let mut actions: Vec<&ActionSpec> = self.actions.iter().collect();
        actions.sort_by_key(|action| &action.name);
        let mut queries: Vec<&QuerySpec> = self.queries.iter().collect();
        queries.sort_by_key(|query| &query.name);
        let actions: Vec<Value> = actions.into_iter().map(action).collect();
        let queries: Vec<Value> = queries.into_iter().map(query).collect();
        json!({ "concept": &*self.name, "actions": actions, "queries": queries })
    }

    /// The SHA-256 of the canonical text of [`signature`](Self::signature), in hexadecimal digits.
    /// Two workers with the same hash accept the same inputs and return the same types.
    pub fn hash(&self) -> String {
        let digest = Sha256::digest(canonical(&self.signature()));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn action(action: &ActionSpec) -> Value {
    json!({
        "name": &*action.name,
        "input": params(&action.input),
        "success": action.success.as_ref().map(params),
        "canFail": action.can_fail,
        "hasEffects": action.has_effects,
    })
}

fn query(query: &QuerySpec) -> Value {
    let rows = match query.rows {
        Rows::One => "one",
        Rows::AtMostOne => "atMostOne",
        Rows::Any => "any",
    };
    json!({
        "name": &*query.name,
        "input": params(&query.input),
        "output": params(&query.output),
        "rows": rows,
    })
}

fn params(params: &Params) -> Value {
    let mut sorted: Vec<_> = params.params.iter().collect();
    sorted.sort_by_key(|param| &param.name);
    let sorted: Vec<Value> = sorted
        .into_iter()
        .map(
            |param| json!({ "name": &*param.name, "optional": param.optional, "type": param.kind }),
        )
        .collect();
    json!({ "params": sorted, "open": params.open })
}
