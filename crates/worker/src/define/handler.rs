//! Converts methods of the state to handlers that the host can call.

use std::sync::Arc;

use concert_lang::spec;
use concert_wire::envelope::Object;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::boxed::Boxed;
use crate::call::{Call, Query, Stop};
use crate::concept::{self, ActionHandler, Failure, QueryHandler, Rows};
use crate::outcome::Outcome;
use crate::store::{Import, ImportReport};

/// An async method `(&state, request) -> Result<O, Stop>`. Every such method implements this trait.
pub trait Handler<'a, S: 'a, R, O>: Send + Sync {
    /// The method's future.
    type Answer: Future<Output = Result<O, Stop>> + Send + 'a;

    /// Calls the method.
    fn call(&self, state: &'a S, request: R) -> Self::Answer;
}

impl<'a, S: 'a, R, O, F, A> Handler<'a, S, R, O> for F
where
    F: Fn(&'a S, R) -> A + Send + Sync,
    A: Future<Output = Result<O, Stop>> + Send + 'a,
{
    type Answer = A;

    fn call(&self, state: &'a S, request: R) -> A {
        self(state, request)
    }
}

/// Result of a query's handler: `Vec<R>` for `(…)*`, `Option<R>` for `(…)?`, [`One<R>`] for `(…)`.
/// `(…)`.
pub trait IntoRows: Send + 'static {
    /// The number of rows that the type can hold.
    const ROWS: spec::Rows;
    /// A row.
    type Row: Serialize;

    /// The rows.
    fn into_rows(self) -> impl Iterator<Item = Self::Row>;
}

/// The row of a query that returns exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct One<R>(pub R);

impl<R: Serialize + Send + 'static> IntoRows for One<R> {
    const ROWS: spec::Rows = spec::Rows::One;
    type Row = R;

    fn into_rows(self) -> impl Iterator<Item = R> {
        std::iter::once(self.0)
    }
}

impl<R: Serialize + Send + 'static> IntoRows for Option<R> {
    const ROWS: spec::Rows = spec::Rows::AtMostOne;
    type Row = R;

    fn into_rows(self) -> impl Iterator<Item = R> {
        self.into_iter()
    }
}

impl<R: Serialize + Send + 'static> IntoRows for Vec<R> {
    const ROWS: spec::Rows = spec::Rows::Any;
    type Row = R;

    fn into_rows(self) -> impl Iterator<Item = R> {
        self.into_iter()
    }
}

/// An action handler without its state.
pub(super) type ActionOf<S> = Box<dyn Fn(Arc<S>) -> ActionHandler + Send + Sync>;
/// An importer without its state.
pub(super) type ImportOf<S> =
    Box<dyn Fn(Arc<S>, Import) -> Boxed<'static, Result<ImportReport, Stop>> + Send + Sync>;
/// A query handler without its state.
pub(super) type QueryOf<S> = Box<dyn Fn(Arc<S>) -> QueryHandler + Send + Sync>;

pub(super) fn action<S, I, O, H>(handler: H) -> ActionOf<S>
where
    S: Send + Sync + 'static,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    H: for<'a> Handler<'a, S, Call<I>, O> + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |state| {
        let handler = handler.clone();
        Box::new(move |call: Call<Object>| -> concept::Future<Outcome> {
            let (state, handler) = (state.clone(), handler.clone());
            Box::pin(async move {
                let (input, call) = call.split();
                match read(input) {
                    Ok(input) => outcome(handler.call(&state, call.with(input)).await),
                    Err(why) => Ok(Outcome::Mismatch(why)),
                }
            })
        })
    })
}

pub(super) fn query<S, I, O, H>(handler: H) -> QueryOf<S>
where
    S: Send + Sync + 'static,
    I: DeserializeOwned + Send + 'static,
    O: IntoRows,
    H: for<'a> Handler<'a, S, Query<I>, O> + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |state| {
        let handler = handler.clone();
        Box::new(move |query: Query<Object>| -> concept::Future<Rows> {
            let (state, handler) = (state.clone(), handler.clone());
            Box::pin(async move {
                let Query { input, large } = query;
                let input = read(input).map_err(Failure::Unreadable)?;
                let rows = handler.call(&state, Query { input, large }).await.map_err(failed)?;
                let rows = rows.into_rows().map(|row| object(&row));
                rows.collect::<Result<_, _>>().map_err(Failure::Mismatch)
            })
        })
    })
}

pub(super) fn import<S, H>(importer: H) -> ImportOf<S>
where
    S: Send + Sync + 'static,
    H: for<'a> Handler<'a, S, Import, ImportReport> + 'static,
{
    let importer = Arc::new(importer);
    Box::new(move |state, import| {
        let importer = importer.clone();
        Box::pin(async move { importer.call(&state, import).await })
    })
}

/// Reads a key of an input that may be absent or null: `Option<Option<T>>` is `None` for an absent
/// key, and `Some(None)` for null, with `#[serde(default, deserialize_with = "given")]`.
///
/// # Errors
/// The value is not a `T`.
pub fn given<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(from).map(Some)
}

fn read<I: DeserializeOwned>(input: Object) -> Result<I, String> {
    serde_json::from_value(Value::Object(input)).map_err(|error| error.to_string())
}

fn outcome<O: Serialize>(answer: Result<O, Stop>) -> Result<Outcome, Failure> {
    match answer {
        Ok(output) => Ok(object(&output).map_or_else(Outcome::Mismatch, Outcome::Done)),
        Err(Stop::Refused(error)) => Ok(Outcome::Refused(error)),
        Err(Stop::Throttled { error, wait }) => {
            // Rounded up, so that a client does not come too early.
            let wait_s = wait.map(|wait| wait.as_millis().div_ceil(1000));
            let wait_s = wait_s.map(|wait_s| u64::try_from(wait_s).unwrap_or(u64::MAX));
            Ok(Outcome::Throttled { error, wait_s })
        }
        Err(stop) => Err(failed(stop)),
    }
}

fn failed(stop: Stop) -> Failure {
    match stop {
        Stop::Retry(why) => Failure::Retry(why),
        Stop::NoPermit(why) => Failure::MayNotWrite(why.0),
        Stop::Refused(why) | Stop::Throttled { error: why, .. } => {
            Failure::Mismatch(format!("a query cannot be refused; return no row instead: {why}"))
        }
    }
}

fn object(output: &impl Serialize) -> Result<Object, String> {
    match serde_json::to_value(output) {
        Ok(Value::Object(object)) => Ok(object),
        // `()`, for outputs without keys.
        Ok(Value::Null) => Ok(Object::new()),
        Ok(_) => {
            Err("the handler's output is not an object; return a struct with named fields"
                .to_owned())
        }
        Err(error) => Err(format!("the output cannot be serialized: {error}")),
    }
}
