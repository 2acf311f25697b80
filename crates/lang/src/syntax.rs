//! The syntax tree with source locations, before names are resolved.

use serde_json::Value;

use crate::source::Span;

/// A name and its location.
#[derive(Debug, Clone, PartialEq)]
pub struct Ident {
    /// The name.
    pub text: String,
    /// Location.
    pub span: Span,
}

/// A file of rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleFile {
    /// The header declarations.
    pub headers: Vec<HeaderDef>,
    /// The rules.
    pub syncs: Vec<SyncDef>,
}

/// `header "Name: Scheme" as key`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderDef {
    /// Text between the quotes.
    pub text: String,
    /// Location of the text.
    pub span: Span,
    /// The request key that it fills.
    pub key: Ident,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncDef {
    /// Name.
    pub name: Ident,
    /// Comment block directly above it.
    pub doc: Vec<String>,
    /// The patterns.
    pub when: Vec<PatternDef>,
    /// The steps of `where`.
    pub steps: Vec<StepDef>,
    /// The calls.
    pub then: Vec<CallDef>,
    /// `else (outs)` and its calls.
    pub otherwise: Option<ElseDef>,
}

/// `else (outs)` after `then`.
#[derive(Debug, Clone, PartialEq)]
pub struct ElseDef {
    /// Keys of the failed output that are bound.
    pub outs: Vec<OutDef>,
    /// The calls.
    pub calls: Vec<CallDef>,
}

/// A pattern of `when`.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternDef {
    /// The concept.
    pub concept: Ident,
    /// The action.
    pub action: Ident,
    /// Demands on the input.
    pub input: Vec<PatDef>,
    /// Demands on the output.
    pub output: Vec<PatDef>,
    /// Location of the whole.
    pub span: Span,
}

/// One key of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct PatDef {
    /// The parameter.
    pub param: Ident,
    /// `name?`.
    pub optional: bool,
    /// Demanded value.
    pub value: PatValue,
}

/// Demand on a key.
#[derive(Debug, Clone, PartialEq)]
pub enum PatValue {
    /// A variable; named like the parameter in the short form.
    Variable(Ident),
    /// A literal.
    Literal(Value, Span),
}

/// A call of `then` or `else`.
#[derive(Debug, Clone, PartialEq)]
pub struct CallDef {
    /// The concept.
    pub concept: Ident,
    /// The action.
    pub action: Ident,
    /// The input.
    pub args: Vec<ArgDef>,
    /// Outputs that are bound.
    pub outs: Vec<OutDef>,
    /// Location of the whole.
    pub span: Span,
}

/// One argument.
#[derive(Debug, Clone, PartialEq)]
pub struct ArgDef {
    /// The parameter.
    pub param: Ident,
    /// `name?`: omitted if null. For a parameter that accepts null: only if the key is missing.
    pub omit_null: bool,
    /// The value.
    pub value: ExprDef,
}

/// An output that is bound.
#[derive(Debug, Clone, PartialEq)]
pub struct OutDef {
    /// The output.
    pub param: Ident,
    /// The variable.
    pub variable: Ident,
}

/// A query in a step of `where`.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryDef {
    /// The concept.
    pub concept: Ident,
    /// The query.
    pub query: Ident,
    /// The input.
    pub args: Vec<ArgDef>,
    /// Demands on each row, and its bindings.
    pub output: Vec<PatDef>,
}

/// A step of `where`.
#[derive(Debug, Clone, PartialEq)]
pub struct StepDef {
    /// Kind.
    pub kind: StepKind,
    /// `else call`.
    pub otherwise: Option<CallDef>,
    /// Location of the whole.
    pub span: Span,
}

/// Kind of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// One frame per row.
    Query(QueryDef),
    /// One frame per row, or one with nulls.
    Optional(QueryDef),
    /// Keeps the frame if there is a row.
    Some(QueryDef),
    /// Keeps the frame if there is no row.
    No(QueryDef),
    /// Binds a value.
    Let(Ident, ExprDef),
    /// One frame per element.
    Each(Ident, ExprDef),
    /// Collects the values of a variable.
    CollectValues(Ident, Ident),
    /// Collects records: key and variable.
    CollectRecords(Vec<(Ident, Ident)>, Ident),
    /// Keeps the frame if the condition is `true`.
    Filter(ExprDef),
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct ExprDef {
    /// Kind.
    pub kind: ExprKind,
    /// Location.
    pub span: Span,
}

/// Kind of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A variable.
    Variable(String),
    /// A literal.
    Literal(Value),
    /// A list.
    List(Vec<ExprDef>),
    /// An object, in the order written.
    Object(Vec<(String, ExprDef)>),
    /// `value.field`.
    Field(Box<ExprDef>, String),
    /// `not value`.
    Not(Box<ExprDef>),
    /// Left operand, operator and right operand.
    Binary(Box<ExprDef>, crate::expr::Operator, Box<ExprDef>),
}
