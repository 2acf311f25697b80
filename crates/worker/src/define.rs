//! A concept's definition: its spec, its state and its handlers, registered by name.

mod handler;
mod mismatch;

use std::pin::Pin;
use std::sync::Arc;

use concert_lang::spec::ConceptSpec;
use concert_wire::name::ConceptName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::handler::{ActionOf, ImportOf, QueryOf};
use self::mismatch::Registered;
use crate::call::{Call, Query};
use crate::concept::Concept;
use crate::settings::{self, NoSettings};
use crate::start::{Environment, Options, Start, StartError};
use crate::store::{Import, ImportReport};
use crate::worker::{self, Running};

pub use self::handler::{Handler, IntoRows, One, given};
pub use self::mismatch::Mismatch;

/// Starts the definition of a concept with the text of its spec.
pub fn concept(spec: impl Into<Arc<str>>) -> Define<NoSettings> {
    Define { spec: spec.into(), keys: &[], check: |_| Ok(()) }
}

/// A definition without a state yet.
#[derive(Debug)]
pub struct Define<T> {
    spec: Arc<str>,
    keys: &'static [&'static str],
    check: fn(&T) -> Result<(), String>,
}

impl<T: DeserializeOwned + Send + 'static> Define<T> {
    /// The type of the worker's settings. Give it the attribute
    /// `#[serde(default, deny_unknown_fields)]`: then keys have defaults, and unknown keys are
    /// errors.
    #[must_use]
    pub fn settings<U>(self) -> Define<U> {
        Define { spec: self.spec, keys: self.keys, check: |_| Ok(()) }
    }

    /// Checks settings beyond their types, such as ranges. See [`Ranges`](crate::Ranges).
    #[must_use]
    pub fn checked(mut self, check: fn(&T) -> Result<(), String>) -> Self {
        self.check = check;
        self
    }

    /// Names of the worker's own keys, in addition to the one that decrypts secrets.
    #[must_use]
    pub fn keys(mut self, keys: &'static [&'static str]) -> Self {
        self.keys = keys;
        self
    }

    /// The function that opens the state when the worker starts.
    pub fn open<S, F, A>(self, open: F) -> Handlers<T, S>
    where
        F: Fn(Start<T>) -> A + Send + Sync + 'static,
        A: std::future::Future<Output = Result<S, StartError>> + Send + 'static,
    {
        Handlers {
            define: self,
            open: Box::new(move |start| Box::pin(open(start))),
            actions: Vec::new(),
            queries: Vec::new(),
            import: None,
            registered: Registered::default(),
        }
    }
}

/// A boxed future.
type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;
type Open<T, S> = Box<dyn Fn(Start<T>) -> Future<Result<S, StartError>> + Send + Sync>;

/// A definition to which handlers are added.
pub struct Handlers<T, S> {
    define: Define<T>,
    open: Open<T, S>,
    actions: Vec<(String, ActionOf<S>)>,
    queries: Vec<(String, QueryOf<S>)>,
    import: Option<(&'static str, ImportOf<S>)>,
    registered: Registered,
}

impl<T, S> Handlers<T, S>
where
    T: DeserializeOwned + Send + 'static,
    S: Send + Sync + 'static,
{
    /// Registers the handler of an action: a method `async fn(&self, Call<I>) -> Result<O, Stop>`.
    /// The fields of `I` and `O` are the spec's parameters.
    #[must_use]
    pub fn action<I, O, H>(mut self, name: &str, handler: H) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        H: for<'a> Handler<'a, S, Call<I>, O> + 'static,
    {
        self.registered.actions.push(name.to_owned());
        self.actions.push((name.to_owned(), handler::action(handler)));
        self
    }

    /// Registers the handler of a query: a method `async fn(&self, Query<I>) -> Result<O, Stop>`;
    /// see [`IntoRows`] for `O`.
    #[must_use]
    pub fn query<I, O, H>(mut self, name: &str, handler: H) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: IntoRows,
        H: for<'a> Handler<'a, S, Query<I>, O> + 'static,
    {
        self.registered.queries.push((name.to_owned(), O::ROWS));
        self.queries.push((name.to_owned(), handler::query(handler)));
        self
    }

    /// Registers the importer of another system's documents, under the kind that
    /// `concert migrate` names: a method `async fn(&self, Import) -> Result<ImportReport, Stop>`.
    #[must_use]
    pub fn import<H>(mut self, kind: &'static str, importer: H) -> Self
    where
        H: for<'a> Handler<'a, S, Import, ImportReport> + 'static,
    {
        self.import = Some((kind, handler::import(importer)));
        self
    }

    /// Builds the worker. A mismatch between spec and handlers is reported when a command starts.
    pub fn build(self) -> Worker {
        let Define { spec: text, keys, check } = self.define;
        let guess = name_of(&text).to_owned();
        let parsed = concert_lang::concept::parse_one(&format!("{guess}.concept"), &text)
            .map_err(|why| Mismatch::of_spec(&guess, why));
        let parsed = parsed
            .and_then(|spec| Mismatch::find(&spec, &self.registered).map(|name| (name, spec)));
        let kind = self.import.as_ref().map(|(kind, _)| *kind);
        let opening = Arc::new(Opening {
            open: self.open,
            actions: self.actions,
            queries: self.queries,
            import: self.import.map(|(_, import)| import),
            check,
        });
        Worker {
            definition: Arc::new(Definition {
                concept: parsed.as_ref().map_or(guess, |(name, _)| name.to_string()),
                spec: text,
                keys,
                kind,
                parsed,
                opening: Box::new(opening),
            }),
            #[cfg(feature = "test-support")]
            forgets_stamps: false,
        }
    }
}

/// The name after `concept`, for errors about an invalid spec.
fn name_of(spec: &str) -> &str {
    let line = spec.lines().find_map(|line| line.trim().strip_prefix("concept "));
    let name = line.and_then(|rest| rest.split_whitespace().next());
    name.unwrap_or("(unnamed)")
}

/// The definition of a worker. Its types are erased, so the workers of an application fit into an
/// array.
#[derive(Clone)]
pub struct Worker {
    definition: Arc<Definition>,
    #[cfg(feature = "test-support")]
    forgets_stamps: bool,
}

struct Definition {
    concept: String,
    spec: Arc<str>,
    keys: &'static [&'static str],
    /// The kind of documents that it imports.
    kind: Option<&'static str>,
    parsed: Result<(ConceptName, ConceptSpec), Mismatch>,
    opening: Box<dyn Opens>,
}

/// Operations of a worker, independent of its types.
trait Opens: Send + Sync {
    fn check(&self, settings: &Value) -> Result<(), String>;

    fn open(
        &self,
        environment: Environment,
        settings: &Value,
        name: ConceptName,
        spec: ConceptSpec,
    ) -> Future<Result<Concept, StartError>>;

    fn import(
        &self,
        environment: Environment,
        settings: &Value,
        import: Import,
    ) -> Future<Result<ImportReport, StartError>>;
}

struct Opening<T, S> {
    open: Open<T, S>,
    actions: Vec<(String, ActionOf<S>)>,
    queries: Vec<(String, QueryOf<S>)>,
    import: Option<ImportOf<S>>,
    check: fn(&T) -> Result<(), String>,
}

impl<T, S> Opens for Arc<Opening<T, S>>
where
    T: DeserializeOwned + Send + 'static,
    S: Send + Sync + 'static,
{
    fn check(&self, settings: &Value) -> Result<(), String> {
        settings::read(settings, self.check).map(drop)
    }

    fn open(
        &self,
        environment: Environment,
        settings: &Value,
        name: ConceptName,
        spec: ConceptSpec,
    ) -> Future<Result<Concept, StartError>> {
        let settings = settings::read(settings, self.check);
        let opening = self.clone();
        Box::pin(async move {
            let settings = settings.map_err(StartError::Settings)?;
            let state = (opening.open)(Start { settings, environment }).await?;
            let state = Arc::new(state);
            let actions = opening.actions.iter();
            let queries = opening.queries.iter();
            Ok(Concept {
                name,
                spec,
                actions: actions.map(|(name, of)| (name.clone(), of(state.clone()))).collect(),
                queries: queries.map(|(name, of)| (name.clone(), of(state.clone()))).collect(),
            })
        })
    }

    fn import(
        &self,
        environment: Environment,
        settings: &Value,
        import: Import,
    ) -> Future<Result<ImportReport, StartError>> {
        let settings = settings::read(settings, self.check);
        let opening = self.clone();
        Box::pin(async move {
            let settings = settings.map_err(StartError::Settings)?;
            let state = (opening.open)(Start { settings, environment }).await?;
            match &opening.import {
                Some(importer) => {
                    importer(Arc::new(state), import).await.map_err(StartError::concept)
                }
                None => Ok(import.finished()),
            }
        })
    }
}

impl Worker {
    /// The concept's name.
    pub fn concept(&self) -> &str {
        &self.definition.concept
    }

    /// The text of the spec.
    pub fn spec(&self) -> &str {
        &self.definition.spec
    }

    /// Names of the worker's own keys.
    pub fn keys(&self) -> &'static [&'static str] {
        self.definition.keys
    }

    /// The kind of another system's documents that the worker imports, such as `accounts`.
    pub fn imports(&self) -> Option<&'static str> {
        self.definition.kind
    }

    /// Imports documents of another system into the concept's database. The worker may run.
    ///
    /// # Errors
    /// The state cannot be opened, or a database fails. Documents that cannot be imported are in
    /// the report.
    pub async fn import(
        &self,
        options: Options,
        import: Import,
    ) -> Result<ImportReport, StartError> {
        let (name, _) = self.definition.parsed.clone()?;
        let environment = Environment::new(name, self.keys(), &options);
        self.definition.opening.import(environment, &options.settings, import).await
    }

    /// Checks that the spec and the handlers match.
    ///
    /// # Errors
    /// All differences.
    pub fn check(&self) -> Result<(), Mismatch> {
        self.definition.parsed.as_ref().map(drop).map_err(Clone::clone)
    }

    /// Checks settings like the start does; `null` is an empty table.
    ///
    /// # Errors
    /// The invalid key and the reason.
    pub fn check_settings(&self, settings: &Value) -> Result<(), String> {
        self.definition.opening.check(settings)
    }

    /// Starts the worker. When this returns, the worker receives messages.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        &self,
        bus: concert_runtime::bus::Bus,
        options: Options,
    ) -> Result<Running, StartError> {
        let (name, spec) = self.definition.parsed.clone()?;
        let sealer = options.sealer()?;
        let environment = Environment::new(name.clone(), self.keys(), &options);
        #[cfg(feature = "test-support")]
        let environment = environment.forgetting_stamps(self.forgets_stamps);
        let opened = self.definition.opening.open(environment, &options.settings, name, spec);
        let concept = Arc::new(opened.await?);
        let Options { host, log, shutdown, .. } = options;
        Ok(worker::run(bus, concept, sealer, host, log, shutdown).await?)
    }

    /// Makes the worker store no stamps, so that it recognizes no redelivery. A test uses this
    /// worker to prove that it depends on the stamps.
    #[cfg(feature = "test-support")]
    #[must_use]
    pub fn forgetting_stamps(mut self) -> Self {
        self.forgets_stamps = true;
        self
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Worker({})", self.concept())
    }
}

#[cfg(test)]
mod tests;
