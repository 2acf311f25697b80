//! Checks the uses of variables, after their types are known.

use concert_wire::routes::ValueType;
use serde_json::Value;

use super::checked::Checked;
use super::types::{secret, unify};
use super::variables::{Origin, Variable, Variables, bound_twice};
use crate::diagnostics::{Diagnostic, NULL, WRONG_TYPE};
use crate::expr::{Expr, Operator};
use crate::program::{Slot, Step};
use crate::source::Span;

/// Position in which a variable is used.
#[derive(Debug, Clone)]
pub(crate) enum Where {
    /// As an argument, with the type of the parameter; `None` if the spec does not declare it.
    Param(Option<ValueType>),
    /// As the HTTP status of a response.
    Status,
    /// In the body of the response, at any depth.
    Answer,
    /// In a comparison with null, which a secret permits too.
    NullTest,
    /// As an operand of `??` in an argument, with the type of the parameter.
    Default(ValueType),
    /// Within an expression.
    Within(&'static str),
}

/// How an operand is used, for messages.
pub(super) const OPERAND: &str = "compared or joined";

impl Where {
    /// The declared type of a value in this position.
    pub(super) fn expected(&self) -> Option<&ValueType> {
        match self {
            Self::Param(declared) => declared.as_ref(),
            Self::Status => Some(&ValueType::Number),
            Self::Answer | Self::NullTest | Self::Default(_) | Self::Within(_) => None,
        }
    }

    /// The position of an operand of `??` in this position.
    pub(super) fn of_default(&self) -> Self {
        match self {
            Self::Default(kind) => Self::Default(kind.clone()),
            _ => self.expected().cloned().map_or(Self::Within(OPERAND), Self::Default),
        }
    }
}

/// One use of a variable.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) slot: Slot,
    pub(crate) place: Where,
    pub(crate) span: Span,
    /// `true` if null is excluded or allowed here.
    pub(crate) handles_null: bool,
}

/// Infers the types of variables from the parameters that they are passed to.
pub(crate) fn infer(rule: &mut Checked) {
    for used in &rule.uses {
        let Some(variable) = rule.variables.get_mut(used.slot) else { continue };
        if let Where::Default(kind) = &used.place {
            variable.learn_indirectly(kind);
        } else if let Some(kind) = used.place.expected() {
            variable.learn(kind);
        }
    }
    infer_from_lets(&rule.sync.steps, &mut rule.variables);
}

/// Gives the types of the variables of `let` to the variables that they may be equal to. The last
/// one first: its value may be that of an earlier one.
fn infer_from_lets(steps: &[Step], variables: &mut Variables) {
    for step in steps.iter().rev() {
        match step {
            Step::Let(slot, value) => {
                if let Some(kind) = variables.get(*slot).and_then(Variable::taken_as) {
                    pass_on(value, &kind, variables);
                }
            }
            Step::Collect { body, .. } => infer_from_lets(body, variables),
            _ => {}
        }
    }
}

/// Gives the type of a value to the variables that it may be equal to.
fn pass_on(value: &Expr, kind: &ValueType, variables: &mut Variables) {
    match value {
        Expr::Variable(slot) => {
            if let Some(variable) = variables.get_mut(*slot) {
                variable.learn_indirectly(kind);
            }
        }
        Expr::Binary(left, Operator::Default, right) => {
            pass_on(left, kind, variables);
            pass_on(right, kind, variables);
        }
        _ => {}
    }
}

/// Checks every use.
pub(crate) fn judge(rule: &Checked, diagnostics: &mut Vec<Diagnostic>) {
    for variable in rule.variables.iter().filter(|variable| variable.has_learnt_a_secret()) {
        diagnostics.extend(variable.places.iter().skip(1).map(|place| bound_twice(*place)));
    }
    for used in &rule.uses {
        if let Some(variable) = rule.variables.get(used.slot) {
            diagnostics.extend(judge_one(used, variable));
        }
    }
}

fn judge_one(used: &Use, variable: &Variable) -> Option<Diagnostic> {
    let name = &variable.name;
    let kind = variable.kind();
    let is_secret = kind.is_some_and(ValueType::is_secret);
    let message = match &used.place {
        Where::Param(Some(expected)) if expected.is_secret() && variable.may_be_secret() => {
            return None;
        }
        Where::Param(Some(expected)) if expected.is_secret() => {
            format!("`{name}` is not a secret, but this parameter takes only a secret")
        }
        Where::Param(_) | Where::Status if is_secret => {
            format!("the secret `{name}` is passed to a parameter that is not secret")
        }
        Where::Answer
            if is_secret && !matches!(variable.origin, Origin::Output | Origin::Request) =>
        {
            format!(
                "the secret `{name}` cannot be in a response: neither did an action of this rule \
                 return it, nor did the client send it"
            )
        }
        Where::Within(_) | Where::Default(_) if is_secret => {
            let how = if let Where::Within(how) = &used.place { how } else { OPERAND };
            format!("the secret `{name}` is {how}; a secret can only be passed on")
        }
        Where::Param(Some(expected)) => {
            return mismatch(name, kind?, expected, used.handles_null, used.span);
        }
        Where::Status => {
            let found = mismatch(name, kind?, &ValueType::Number, used.handles_null, used.span);
            return found.map(wrong_status);
        }
        Where::Param(None)
        | Where::Answer
        | Where::NullTest
        | Where::Default(_)
        | Where::Within(_) => return None,
    };
    Some(secret(used.span, &message))
}

/// Adds to a type error in the status of a response how a body can have that key.
pub(super) fn wrong_status(found: Diagnostic) -> Diagnostic {
    if found.code != WRONG_TYPE.code {
        return found;
    }
    found.help(
        "`status` is the HTTP status; for a body with this key, write \
         `Requesting.respondWith (request, body: {status: …})`",
    )
}

/// Compares the type of a value with the expected one.
pub(super) fn mismatch(
    name: &str,
    kind: &ValueType,
    expected: &ValueType,
    handles_null: bool,
    span: Span,
) -> Option<Diagnostic> {
    let known = if handles_null { kind.without_null() } else { kind };
    if unify(known, expected).is_none() {
        let message = format!("`{name}` is {}, expected {}", known.describe(), expected.describe());
        return Some(Diagnostic::error(WRONG_TYPE, span, message));
    }
    if !matches!(known, ValueType::Nullable(_)) || expected.accepts(&Value::Null) {
        return None;
    }
    let message = format!("`{name}` may be null, expected {}", expected.describe());
    let help = "check `… != null` in `where`, give a default with `??`, \
                or write `name?: …` for an optional parameter";
    Some(Diagnostic::error(NULL, span, message).help(help))
}
