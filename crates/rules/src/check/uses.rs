//! Where variables go, judged once all of their types are known.

use concert_wire::routes::ValueType;

use super::Checked;
use crate::diagnostics::{Diagnostic, SECRET, WRONG_TYPE};
use crate::program::Slot;
use crate::source::Span;

use super::variables::Origin;

/// Where a variable is used.
#[derive(Debug, Clone)]
pub(crate) enum Where {
    /// As an argument; the type is the parameter's, `None` where the spec leaves it open.
    Param(Option<ValueType>),
    /// In the answer to the request.
    Answer,
    /// Within an expression.
    Within(&'static str),
}

/// One use of a variable.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) slot: Slot,
    pub(crate) place: Where,
    pub(crate) span: Span,
}

/// A mistake with a secret.
pub(super) fn secret(span: Span, message: &str) -> Diagnostic {
    Diagnostic::error(SECRET, span, message)
}

/// The type of a value that must be of both types; `None` when there is none. Identifiers are strings.
pub(crate) fn unify(a: &ValueType, b: &ValueType) -> Option<ValueType> {
    use ValueType::{Any, Date, Id, Secret, Seq, String};
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Secret, _) | (_, Secret) => None,
        (Any, other) | (other, Any) => Some(other.clone()),
        (String, narrow @ (Id(_) | Date)) | (narrow @ (Id(_) | Date), String) => Some(narrow.clone()),
        (Id(name), Id(_)) => Some(Id(name.clone())),
        (Seq(a), Seq(b)) => unify(a, b).map(|of| Seq(Box::new(of))),
        _ => None,
    }
}

/// Learns the types of variables from the parameters that they are passed to.
pub(crate) fn infer(rule: &mut Checked) {
    for used in &rule.uses {
        let Where::Param(Some(kind)) = &used.place else {
            continue;
        };
        let known = rule.variables.get(used.slot).and_then(|variable| variable.kind.clone());
        let learnt = match known {
            None => Some(kind.clone()),
            // What is a secret anywhere is one everywhere; the other uses are then mistakes.
            Some(known)
                if rule
                    .variables
                    .get(used.slot)
                    .is_some_and(|variable| variable.origin == Origin::Input)
                    && *kind == ValueType::Secret
                    && known != ValueType::Secret =>
            {
                Some(ValueType::Secret)
            }
            Some(known) => unify(&known, kind),
        };
        rule.variables.learn(used.slot, learnt);
    }
}

/// Judges every use.
pub(crate) fn judge(rule: &Checked, diagnostics: &mut Vec<Diagnostic>) {
    for used in &rule.uses {
        let Some(variable) = rule.variables.get(used.slot) else {
            continue;
        };
        let name = &variable.name;
        let is_secret = variable.kind == Some(ValueType::Secret);
        match &used.place {
            Where::Param(Some(ValueType::Secret)) if is_secret => {}
            Where::Param(Some(ValueType::Secret)) => {
                diagnostics.push(secret(
                    used.span,
                    &format!("`{name}` is no secret, and only a secret can be passed here"),
                ));
            }
            Where::Param(_) if is_secret => diagnostics.push(secret(
                used.span,
                &format!("the secret `{name}` is passed to a parameter that is none"),
            )),
            Where::Answer if is_secret && variable.origin == Origin::Input => {
                diagnostics.push(secret(
                    used.span,
                    &format!("the secret `{name}` came with a request, and is not answered"),
                ));
            }
            Where::Within(how) if is_secret => diagnostics.push(secret(
                used.span,
                &format!("the secret `{name}` is {how}, and a secret is only passed on"),
            )),
            Where::Param(Some(kind)) => {
                if let Some(known) = &variable.kind
                    && unify(known, kind).is_none()
                {
                    let message = format!("`{name}` is {}, and {} is expected", known.describe(), kind.describe());
                    diagnostics.push(Diagnostic::error(WRONG_TYPE, used.span, message));
                }
            }
            Where::Param(None) | Where::Answer | Where::Within(_) => {}
        }
    }
}
