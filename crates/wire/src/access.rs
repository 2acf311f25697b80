//! Access rights on the bus, as configuration of the NATS server.
//!
//! Each service has its own account, which contains only imports from the account [`BUS`], where
//! the streams are. Subject permissions within one account would not be sufficient: the server
//! sends a response to any subject that a request names. A client that may read one message could
//! therefore publish it anywhere, including to the server's API (ADR 12). In a separate account, a
//! response reaches only what the account imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::large::blob::{BLOBS, BLOBS_SUBJECTS};
use crate::name::{ActionName, ConceptName};
use crate::routes::{ASYNCAPI_KEY, LOG_FULL_KEY, OPENAPI_KEY, ROUTES_KEY, TYPED_ROUTES_KEY};
use crate::subject::{
    self, ARCHIVES, BUCKET, DEAD, DEAD_NOTICES, FLOWS_NOTICE, LOG, ROUTER_RETRY, ROUTERS,
    ROUTES_NOTICE, WORKERS,
};
use crate::{REQUEST, REQUESTING, RESERVED_CONCEPT, RESPOND, RESPOND_WITH};

/// The account of the streams, and of the users `setup` and `operator`.
pub const BUS: &str = "BUS";
/// Prefix of a service's JetStream API requests, instead of `$JS.API`: the server itself answers
/// requests to `$JS.API` in every account.
pub const SERVICE_API: &str = "bus.API";

/// A user of the bus.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// The HTTP edges.
    Edge,
    /// The routers.
    Router,
    /// The archives.
    Archive,
    /// The workers of a concept.
    Worker(ConceptName),
    /// Creates streams, consumers and buckets; not needed when they exist.
    Setup,
    /// Operators and their commands.
    Operator,
}

/// Two users would have the same name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the concept {0} cannot have its own user: the name `{name}` is used already; rename the \
     concept",
    name = .0.as_str().to_lowercase()
)]
pub struct NameTaken(pub ConceptName);

impl User {
    /// Name of the user, and of its key file.
    pub fn name(&self) -> String {
        match self {
            Self::Edge => "edge".to_owned(),
            Self::Router => "router".to_owned(),
            Self::Archive => "archive".to_owned(),
            Self::Worker(concept) => concept.as_str().to_lowercase(),
            Self::Setup => "setup".to_owned(),
            Self::Operator => "operator".to_owned(),
        }
    }

    fn account(&self) -> String {
        match self {
            Self::Edge => "EDGE".to_owned(),
            Self::Router => "ROUTER".to_owned(),
            Self::Archive => "ARCHIVE".to_owned(),
            Self::Worker(concept) => format!("CONCEPT_{concept}"),
            Self::Setup | Self::Operator => BUS.to_owned(),
        }
    }
}

/// The users of an application's bus.
#[derive(Debug, Clone)]
pub struct Access {
    concepts: Vec<ConceptName>,
    open: Vec<(ConceptName, ActionName)>,
    /// If one process runs the services: the concepts whose workers are other programs. [`BUS`] and
    /// theirs are then the only accounts.
    together: Option<BTreeSet<ConceptName>>,
}

/// First line of the configuration for one process that runs all services.
const TOGETHER: &str = "# Written by `concert up`, whose parts are one user: one process, which \
                        holds every key (docs/operations.md).\n";
/// First line of the configuration for services in separate processes.
const APART: &str =
    "# Written by `concert setup`: access rights on the bus (docs/operations.md).\n";

/// Kinds of imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A service import with at most one response.
    Service,
    /// A service import with many responses.
    MultiService,
    /// A stream import: messages published there are received here.
    Stream,
}

/// An import of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    kind: Kind,
    subject: String,
    /// The subject in the importing account, if it differs.
    to: Option<String>,
}

fn service_import(subject: String) -> Import {
    Import { from: BUS.to_owned(), kind: Kind::Service, subject, to: None }
}

fn stream_import(subject: String) -> Import {
    Import { kind: Kind::Stream, ..service_import(subject) }
}

/// Imports a request of the JetStream API.
fn api(request: &str) -> Import {
    let to = format!("{SERVICE_API}.{request}");
    Import { to: Some(to), ..service_import(format!("$JS.API.{request}")) }
}

/// As [`api`], with more than one response.
fn api_of_many(request: &str) -> Import {
    Import { kind: Kind::MultiService, ..api(request) }
}

/// Imports to read and write a key-value bucket.
fn bucket(name: &str) -> Vec<Import> {
    let keys = format!("$KV.{name}.>");
    let write =
        Import { to: Some(format!("{SERVICE_API}.{keys}")), ..service_import(keys.clone()) };
    vec![
        api(&format!("STREAM.INFO.KV_{name}")),
        api(&format!("DIRECT.GET.KV_{name}.{keys}")),
        write,
    ]
}

/// Imports to receive the messages of a consumer, and to dead-letter messages that cannot be
/// parsed.
fn consumer(stream: &str, consumer: &str) -> Vec<Import> {
    vec![
        api(&format!("STREAM.INFO.{stream}")),
        api(&format!("STREAM.MSG.GET.{stream}")),
        api(&format!("STREAM.MSG.DELETE.{stream}")),
        api(&format!("CONSUMER.INFO.{stream}.{consumer}")),
        api_of_many(&format!("CONSUMER.MSG.NEXT.{stream}.{consumer}")),
        service_import(format!("$JS.ACK.{stream}.{consumer}.>")),
        // The form of newer servers, with domain and account.
        service_import(format!("$JS.ACK.*.*.{stream}.{consumer}.>")),
    ]
}

/// Imports to store and read large values. Their keys are derived from the references, so it does
/// not matter that a literal `*` finds a message of another account.
fn large_values() -> [Import; 2] {
    [
        service_import(BLOBS_SUBJECTS.to_owned()),
        api(&format!("DIRECT.GET.{BLOBS}.{BLOBS_SUBJECTS}")),
    ]
}

/// Takes an import from the account of the archives instead.
fn from_archive(import: Import) -> Import {
    Import { from: User::Archive.account(), ..import }
}

fn worker(concept: &str) -> Vec<Import> {
    let notes = subject::notes_bucket(concept);
    let mut imports = vec![
        service_import(format!("done.*.{concept}.*.*")),
        service_import(format!("action.{concept}.*.*")),
        service_import(format!("dead.{concept}.*")),
        api(&format!("DIRECT.GET.{LOG}.done.*.{concept}.*.*")),
        api(&format!("STREAM.INFO.{LOG}")),
        api(&format!("STREAM.PURGE.KV_{notes}")),
    ];
    imports.extend(consumer(&format!("ACTIONS_{concept}"), WORKERS));
    imports.extend(bucket(&notes));
    imports.extend(large_values());
    imports
}

/// Imports of a concept's micro service: its actions and queries, and service discovery.
fn service(concept: &str, account: &str) -> Vec<Import> {
    let of = |kind, subject| Import { from: account.to_owned(), kind, ..service_import(subject) };
    let mut imports = vec![of(Kind::Service, format!("concept.{concept}.*"))];
    for verb in ["PING", "INFO", "STATS"] {
        for whose in [String::new(), format!(".{concept}"), format!(".{concept}.*")] {
            imports.push(of(Kind::MultiService, format!("$SRV.{verb}{whose}")));
        }
    }
    imports
}

impl Access {
    /// An application with these concepts. [`REQUESTING`] may be among them; the edge is its
    /// worker. The edges may call the `open` actions without a rule; those of unknown concepts are
    /// ignored.
    ///
    /// # Errors
    /// All concepts whose user would have the name of another one.
    pub fn new(
        concepts: impl IntoIterator<Item = ConceptName>,
        open: Vec<(ConceptName, ActionName)>,
    ) -> Result<Self, Vec<NameTaken>> {
        let concepts: BTreeSet<_> =
            concepts.into_iter().filter(|concept| concept.as_str() != REQUESTING).collect();
        let mut taken: BTreeSet<String> =
            [User::Edge, User::Router, User::Archive, User::Setup, User::Operator]
                .iter()
                .map(User::name)
                .collect();
        let clashes: Vec<_> = concepts
            .iter()
            .filter(|concept| !taken.insert(User::Worker((*concept).clone()).name()))
            .map(|concept| NameTaken(concept.clone()))
            .collect();
        if !clashes.is_empty() {
            return Err(clashes);
        }
        Ok(Self {
            open: open.into_iter().filter(|(concept, _)| concepts.contains(concept)).collect(),
            concepts: concepts.into_iter().collect(),
            together: None,
        })
    }

    /// The same application with all services in one process, as the user [`User::Setup`]. That
    /// process has all keys, so separate accounts would not protect anything. Imports cost about a
    /// third of the server's throughput (ADR 12). Workers that are other programs keep their own
    /// accounts.
    #[must_use]
    pub fn in_one_process(mut self, is_other_program: impl Fn(&ConceptName) -> bool) -> Self {
        let others = self.concepts.iter().filter(|concept| is_other_program(concept));
        self.together = Some(others.cloned().collect());
        self
    }

    /// Returns whether all services are the user [`User::Setup`], except workers that are other
    /// programs.
    pub fn is_in_one_process(&self) -> bool {
        self.together.is_some()
    }

    /// The concepts whose workers have their own accounts.
    fn separate(&self) -> impl Iterator<Item = &ConceptName> {
        let is_separate = |concept: &&ConceptName| {
            self.together.as_ref().is_none_or(|others| others.contains(*concept))
        };
        self.concepts.iter().filter(is_separate)
    }

    /// Returns whether a configuration is that of an application in one process.
    pub fn is_of_one_process(server_config: &str) -> bool {
        server_config.starts_with(TOGETHER)
    }

    /// The concepts, without [`REQUESTING`].
    pub fn concepts(&self) -> &[ConceptName] {
        &self.concepts
    }

    /// All users.
    pub fn users(&self) -> Vec<User> {
        let mut users = match self.together {
            Some(_) => Vec::new(),
            None => vec![User::Edge, User::Router, User::Archive],
        };
        users.extend(self.separate().cloned().map(User::Worker));
        users.extend([User::Setup, User::Operator]);
        users
    }

    /// The imports of a user.
    fn imports(&self, user: &User) -> Vec<Import> {
        match user {
            User::Worker(concept) => worker(concept.as_str()),
            User::Edge => {
                let mut imports = vec![
                    service_import(format!("done.*.{REQUESTING}.{REQUEST}.*")),
                    stream_import(DEAD_NOTICES.to_owned()),
                    // For requests that may be stored already.
                    api(&format!("DIRECT.GET.{LOG}.done.*.{REQUESTING}.{REQUEST}.*")),
                    // The edge searches all responses of a flow for the first one.
                    api_of_many(&format!("DIRECT.GET.{LOG}")),
                    api(&format!("STREAM.INFO.KV_{BUCKET}")),
                    stream_import(ROUTES_NOTICE.to_owned()),
                ];
                imports.extend(
                    [ROUTES_KEY, TYPED_ROUTES_KEY, OPENAPI_KEY, ASYNCAPI_KEY, LOG_FULL_KEY]
                        .map(|key| api(&format!("DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.{key}"))),
                );
                // From the router itself: what one account sends to another through a service does
                // not reach a stream import of a third.
                imports.extend([RESPOND, RESPOND_WITH].map(|action| Import {
                    from: User::Router.account(),
                    ..stream_import(format!("done.*.{REQUESTING}.{action}.*"))
                }));
                imports.extend(large_values());
                // For the console.
                imports.push(from_archive(service_import(format!("concept.{RESERVED_CONCEPT}.*"))));
                imports.push(from_archive(stream_import(FLOWS_NOTICE.to_owned())));
                imports.extend(self.open.iter().map(|(concept, action)| Import {
                    from: User::Worker(concept.clone()).account(),
                    ..service_import(subject::service(concept.as_str(), action.as_str()))
                }));
                imports
            }
            User::Router => {
                let mut imports = vec![
                    service_import("action.*.*.*".to_owned()),
                    service_import(format!("done.*.{RESERVED_CONCEPT}.*.*")),
                    service_import(format!("done.*.{REQUESTING}.{RESPOND}.*")),
                    service_import(format!("done.*.{REQUESTING}.{RESPOND_WITH}.*")),
                    service_import("dead.*.*".to_owned()),
                    api_of_many(&format!("DIRECT.GET.{LOG}")),
                    api(&format!("STREAM.PURGE.{LOG}")),
                    api(&format!("CONSUMER.UNPIN.{LOG}.{ROUTERS}")),
                ];
                imports.extend(consumer(LOG, ROUTERS));
                // For the responds that routers of an earlier release queued (ADR 37).
                imports.extend(consumer(&format!("ACTIONS_{REQUESTING}"), WORKERS));
                imports.extend(bucket(BUCKET));
                for concept in &self.concepts {
                    let of = |kind, subject| Import {
                        from: User::Worker(concept.clone()).account(),
                        kind,
                        ..service_import(subject)
                    };
                    imports.push(of(Kind::Service, format!("concept.{concept}.*")));
                    // Detects queries that were lost with their worker.
                    imports.push(of(Kind::MultiService, format!("$SRV.PING.{concept}")));
                }
                imports
            }
            User::Archive => self.archive(),
            User::Setup | User::Operator => {
                let workers = self.separate().flat_map(|concept| {
                    let account = User::Worker(concept.clone()).account();
                    service(concept.as_str(), &account)
                });
                if self.together.is_some() {
                    return workers.collect();
                }
                // The router refuses injected actions of Requesting. An id after the name is left
                // out: such an import and the router's own of `action.*.*.*` would form a cycle.
                let mut imports =
                    [format!("action.{REQUESTING}.*"), subject::service(REQUESTING, "*")]
                        .map(|subject| Import {
                            from: User::Router.account(),
                            ..service_import(subject)
                        })
                        .to_vec();
                imports.extend(service(RESERVED_CONCEPT, &User::Archive.account()));
                imports.push(from_archive(stream_import(FLOWS_NOTICE.to_owned())));
                imports.push(Import {
                    from: User::Router.account(),
                    ..service_import(ROUTER_RETRY.to_owned())
                });
                for concept in &self.concepts {
                    let account = User::Worker(concept.clone()).account();
                    imports.extend(service(concept.as_str(), &account));
                }
                imports
            }
        }
    }

    /// Imports to read the log, the dead letters, the rule versions, and the progress of all
    /// consumers.
    fn archive(&self) -> Vec<Import> {
        let mut imports = vec![
            service_import("dead.*.*".to_owned()),
            api_of_many(&format!("DIRECT.GET.{LOG}")),
            api(&format!("STREAM.INFO.KV_{BUCKET}")),
            api(&format!("DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.>")),
            api(&format!("CONSUMER.UNPIN.{LOG}.{ARCHIVES}")),
            api(&format!("CONSUMER.INFO.{LOG}.{ROUTERS}")),
        ];
        imports.extend(consumer(LOG, ARCHIVES));
        imports.extend(consumer(DEAD, ARCHIVES));
        imports.extend(
            self.concepts
                .iter()
                .map(|concept| api(&format!("CONSUMER.INFO.ACTIONS_{concept}.{WORKERS}"))),
        );
        imports
    }

    /// Protects operators from mistakes only: a user in the account of the streams can circumvent
    /// these permissions (ADR 12).
    fn permissions(&self, user: &User) -> String {
        if *user != User::Operator {
            return String::new();
        }
        let mut denied: Vec<String> = ["done.>", "$KV.>", "blob.>"].map(str::to_owned).to_vec();
        denied.extend(
            ["CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE"]
                .map(|verb| format!("$JS.API.STREAM.{verb}.>")),
        );
        let queues = self.concepts.iter().map(|concept| (format!("ACTIONS_{concept}"), WORKERS));
        let mut consumers: Vec<_> = queues.chain([(LOG.to_owned(), ROUTERS)]).collect();
        denied.extend(
            consumers.iter().map(|(stream, _)| format!("$JS.API.STREAM.MSG.DELETE.{stream}")),
        );
        // Operators may delete dead letters.
        consumers.extend([LOG, DEAD].map(|stream| (stream.to_owned(), ARCHIVES)));
        for (stream, consumer) in consumers {
            denied.extend(
                ["CREATE", "DELETE", "MSG.NEXT"]
                    .map(|verb| format!("$JS.API.CONSUMER.{verb}.{stream}.{consumer}")),
            );
        }
        let denied: Vec<_> = denied.iter().map(|subject| format!("\"{subject}\"")).collect();
        format!(", permissions: {{ publish: {{ deny: [{}] }} }}", denied.join(", "))
    }

    /// The block `accounts` of the server's configuration. `keys` returns the public keys of a
    /// user; there are two during a rotation.
    pub fn server_config(&self, keys: impl Fn(&User) -> Vec<String>) -> String {
        let users = self.users();
        let mut imports: BTreeMap<String, BTreeSet<Import>> = BTreeMap::new();
        for user in &users {
            imports.entry(user.account()).or_default().extend(self.imports(user));
        }
        let mut exports: BTreeMap<&str, BTreeMap<(Kind, &str), BTreeSet<&str>>> = BTreeMap::new();
        for (account, imports) in &imports {
            for Import { from, kind, subject, .. } in imports {
                let exported = exports.entry(from).or_default();
                exported.entry((*kind, subject)).or_default().insert(account);
            }
        }
        let mut text =
            String::from(if self.together.is_some() { TOGETHER } else { APART }) + "accounts {\n";
        for (account, imports) in &imports {
            let whose = users.iter().filter(|user| user.account() == *account);
            // Writing to a string cannot fail.
            writeln!(text, "  {account} {{").unwrap_or_default();
            if account == BUS {
                text += "    jetstream: enabled\n";
            }
            text += "    users: [\n";
            for user in whose {
                for key in keys(user) {
                    let permissions = self.permissions(user);
                    writeln!(text, "      {{ nkey: {key}{permissions} }} # {}", user.name())
                        .unwrap_or_default();
                }
            }
            text += "    ]\n    exports: [\n";
            for ((kind, subject), accounts) in exports.get(account.as_str()).into_iter().flatten() {
                let (what, how) = match kind {
                    Kind::Service => ("service", ""),
                    Kind::MultiService => ("service", ", response: stream"),
                    Kind::Stream => ("stream", ""),
                };
                let accounts: Vec<_> = accounts.iter().copied().collect();
                writeln!(
                    text,
                    "      {{ {what}: \"{subject}\"{how}, accounts: [{}] }}",
                    accounts.join(", ")
                )
                .unwrap_or_default();
            }
            text += "    ]\n    imports: [\n";
            for Import { from, kind, subject, to } in imports {
                let what = if *kind == Kind::Stream { "stream" } else { "service" };
                let to = to.as_ref().map(|to| format!(", to: \"{to}\"")).unwrap_or_default();
                writeln!(
                    text,
                    "      {{ {what}: {{ account: {from}, subject: \"{subject}\" }}{to} }}"
                )
                .unwrap_or_default();
            }
            text += "    ]\n  }\n";
        }
        text + "}\n"
    }
}

#[cfg(test)]
mod tests;
