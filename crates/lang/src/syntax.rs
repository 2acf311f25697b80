//! The syntax tree: what was written, with its places, before any name is looked up.

use serde_json::Value;

use crate::source::Span;

/// A name and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Ident {
    /// The name.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncDef {
    /// Its name.
    pub name: Ident,
    /// The comment block right above it.
    pub doc: Vec<String>,
    /// The patterns.
    pub when: Vec<PatternDef>,
    /// The steps of `where`.
    pub steps: Vec<StepDef>,
    /// The calls.
    pub then: Vec<CallDef>,
    /// `else (outs)` and its calls.
    pub otherwise: Option<OtherwiseDef>,
}

/// `else (outs)` after `then`.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherwiseDef {
    /// What is bound of the failed output.
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
    /// What it demands of the input.
    pub input: Vec<PatDef>,
    /// What it demands of the output.
    pub output: Vec<PatDef>,
    /// The whole of it.
    pub span: Span,
}

/// One key of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct PatDef {
    /// The parameter.
    pub param: Ident,
    /// `name?`.
    pub optional: bool,
    /// What it must be.
    pub value: PatValue,
}

/// What a key must be.
#[derive(Debug, Clone, PartialEq)]
pub enum PatValue {
    /// A variable; the same name as the parameter's where only that is written.
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
    /// What is bound of the output.
    pub outs: Vec<OutDef>,
    /// The whole of it.
    pub span: Span,
}

/// One argument.
#[derive(Debug, Clone, PartialEq)]
pub struct ArgDef {
    /// The parameter.
    pub param: Ident,
    /// `name?`: left out when null.
    pub omit_null: bool,
    /// The value.
    pub value: ExprDef,
}

/// One output that is bound.
#[derive(Debug, Clone, PartialEq)]
pub struct OutDef {
    /// The output.
    pub param: Ident,
    /// The variable.
    pub variable: Ident,
}

/// A query as a step of `where`: its inputs are arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryDef {
    /// The concept.
    pub concept: Ident,
    /// The query.
    pub query: Ident,
    /// The input.
    pub args: Vec<ArgDef>,
    /// What each row must be, and binds.
    pub output: Vec<PatDef>,
}

/// A step of `where`.
#[derive(Debug, Clone, PartialEq)]
pub struct StepDef {
    /// What it does.
    pub kind: StepKind,
    /// `else call`.
    pub otherwise: Option<CallDef>,
    /// The whole of it.
    pub span: Span,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// A frame per row.
    Query(QueryDef),
    /// A frame per row, or one with nulls.
    Optional(QueryDef),
    /// Keeps the frame if there is a row.
    Some(QueryDef),
    /// Keeps the frame if there is none.
    No(QueryDef),
    /// Binds a value.
    Let(Ident, ExprDef),
    /// A frame per element.
    Each(Ident, ExprDef),
    /// Gathers one variable.
    CollectValues(Ident, Ident),
    /// Gathers records: key and variable.
    CollectRecords(Vec<(Ident, Ident)>, Ident),
    /// Only `true` passes.
    Filter(ExprDef),
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct ExprDef {
    /// What it is.
    pub kind: ExprKind,
    /// Where.
    pub span: Span,
}

/// What an expression is.
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
    /// Two values and what stands between them.
    Binary(Box<ExprDef>, crate::expr::Operator, Box<ExprDef>),
}
