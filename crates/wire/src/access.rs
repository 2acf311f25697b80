//! Who may say and hear what on the bus, as the NATS server's configuration has it.
//!
//! Each service has an account of its own, in which there is nothing but what it imports from the
//! account [`BUS`], where the streams are. Subject permissions within one account would not do: the
//! server answers at any subject that a request names, so that whoever may read one message could
//! have it written anywhere, the server's own API included (ADR 12). In an account of its own a
//! service can name what it likes: an answer goes no further than its own imports do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::name::{ActionName, ConceptName};
use crate::routes::{ASYNCAPI_KEY, OPENAPI_KEY, ROUTES_KEY};
use crate::subject::{
    self, ARCHIVES, BUCKET, DEAD, DEAD_NOTICES, FLOWS_NOTICE, LOG, ROUTERS, ROUTES_NOTICE, WORKERS,
};
use crate::{REQUESTING, RESERVED_CONCEPT, RESPOND};

/// The account of the streams; set-up and operator have their users in it.
pub const BUS: &str = "BUS";
/// What a service puts before the requests of the JetStream API, in place of `$JS.API`: under that
/// name the server answers every account itself.
pub const SERVICE_API: &str = "bus.API";

/// Somebody who connects to the bus.
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
    /// Makes streams, consumers and buckets, and is not needed when they are there.
    Setup,
    /// People, and the commands that they type.
    Operator,
}

/// A concept whose user has the name of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the concept {0} cannot have a user of its own: `{name}` is taken", name = .0.as_str().to_lowercase())]
pub struct NameTaken(pub ConceptName);

impl User {
    /// The name, which its key file has as well.
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

/// Who is on the bus of an application.
#[derive(Debug, Clone)]
pub struct Access {
    concepts: Vec<ConceptName>,
    open: Vec<(ConceptName, ActionName)>,
    /// One process is all of the services: there are no accounts but [`BUS`].
    together: bool,
}

/// The first line of the configuration for one process that is all of the services.
const TOGETHER: &str = "# Written by `concert up`, whose parts are one user: one process, which holds every key (docs/operations.md).\n";
/// The first line of the configuration for services that are processes of their own.
const APART: &str =
    "# Written by `concert setup`: who may say and hear what (docs/operations.md).\n";

/// How something passes from one account to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A message that may ask for one answer.
    Said,
    /// A message that many answers follow.
    Asked,
    /// What is published there is heard here.
    Heard,
}

/// Something that an account takes from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    kind: Kind,
    subject: String,
    /// The name that it has here, if that is another.
    to: Option<String>,
}

fn said(subject: String) -> Import {
    Import { from: BUS.to_owned(), kind: Kind::Said, subject, to: None }
}

fn heard(subject: String) -> Import {
    Import { kind: Kind::Heard, ..said(subject) }
}

/// A request of the JetStream API.
fn api(request: &str) -> Import {
    let to = format!("{SERVICE_API}.{request}");
    Import { to: Some(to), ..said(format!("$JS.API.{request}")) }
}

/// As [`api`], with more than one answer.
fn api_of_many(request: &str) -> Import {
    Import { kind: Kind::Asked, ..api(request) }
}

/// All that it takes to read a key-value bucket, below a key, and to write there.
fn bucket(name: &str) -> Vec<Import> {
    let keys = format!("$KV.{name}.>");
    let write = Import { to: Some(format!("{SERVICE_API}.{keys}")), ..said(keys.clone()) };
    vec![
        api(&format!("STREAM.INFO.KV_{name}")),
        api(&format!("DIRECT.GET.KV_{name}.{keys}")),
        write,
    ]
}

/// All that it takes to receive the messages of a consumer, and to put aside what cannot be read.
fn consumer(stream: &str, consumer: &str) -> Vec<Import> {
    vec![
        api(&format!("STREAM.INFO.{stream}")),
        api(&format!("STREAM.MSG.GET.{stream}")),
        api(&format!("STREAM.MSG.DELETE.{stream}")),
        api(&format!("CONSUMER.INFO.{stream}.{consumer}")),
        api_of_many(&format!("CONSUMER.MSG.NEXT.{stream}.{consumer}")),
        said(format!("$JS.ACK.{stream}.{consumer}.>")),
        // As newer servers write it, with domain and account before.
        said(format!("$JS.ACK.*.*.{stream}.{consumer}.>")),
    ]
}

/// The same, from the account of the archives.
fn of_archive(import: Import) -> Import {
    Import { from: User::Archive.account(), ..import }
}

fn worker(concept: &str) -> Vec<Import> {
    let notes = subject::notes_bucket(concept);
    let mut imports = vec![
        said(format!("done.*.{concept}.*.*")),
        said(format!("action.{concept}.*.*")),
        said(format!("dead.{concept}.*")),
        api(&format!("DIRECT.GET.{LOG}.done.*.{concept}.*.*")),
        api(&format!("STREAM.INFO.{LOG}")),
        api(&format!("STREAM.PURGE.KV_{notes}")),
    ];
    imports.extend(consumer(&format!("ACTIONS_{concept}"), WORKERS));
    imports.extend(bucket(&notes));
    imports
}

/// What a concept answers as a micro service: to those who ask for an action or a query, or who is
/// there.
fn service(concept: &str, account: &str) -> Vec<Import> {
    let of = |kind, subject| Import { from: account.to_owned(), kind, ..said(subject) };
    let mut imports = vec![of(Kind::Said, format!("concept.{concept}.*"))];
    for verb in ["PING", "INFO", "STATS"] {
        for whose in [String::new(), format!(".{concept}"), format!(".{concept}.*")] {
            imports.push(of(Kind::Asked, format!("$SRV.{verb}{whose}")));
        }
    }
    imports
}

impl Access {
    /// An application with these concepts
    /// ([`REQUESTING`] may be among them; its worker is the edge), whose edges carry the `open`
    /// actions out without a rule; an action of a concept that is not there is left out.
    ///
    /// # Errors
    /// Every concept whose user would have the name of another.
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
            together: false,
        })
    }

    /// The same application with all of its services in one process, which is the user
    /// [`User::Setup`]. That process holds every key, so that nothing would be gained by keeping
    /// its parts from one another; what passes between accounts costs the server a third of what it
    /// does (ADR 12).
    #[must_use]
    pub fn in_one_process(mut self) -> Self {
        self.together = true;
        self
    }

    /// Reports whether all services are the user [`User::Setup`].
    pub fn is_in_one_process(&self) -> bool {
        self.together
    }

    /// Whether a configuration is that of an application in one process.
    pub fn is_of_one_process(server_config: &str) -> bool {
        server_config.starts_with(TOGETHER)
    }

    /// The concepts, without [`REQUESTING`].
    pub fn concepts(&self) -> &[ConceptName] {
        &self.concepts
    }

    /// Everybody.
    pub fn users(&self) -> Vec<User> {
        if self.together {
            return vec![User::Setup, User::Operator];
        }
        let mut users = vec![User::Edge, User::Router, User::Archive];
        users.extend(self.concepts.iter().cloned().map(User::Worker));
        users.extend([User::Setup, User::Operator]);
        users
    }

    /// What a user takes from other accounts.
    fn imports(&self, user: &User) -> Vec<Import> {
        match user {
            User::Worker(concept) => worker(concept.as_str()),
            User::Edge => {
                let mut imports = worker(REQUESTING);
                imports.extend([
                    heard(format!("done.*.{REQUESTING}.{RESPOND}.*")),
                    heard(DEAD_NOTICES.to_owned()),
                    // The first answer of a flow is looked for among all answers to it.
                    api_of_many(&format!("DIRECT.GET.{LOG}")),
                    api(&format!("STREAM.INFO.KV_{BUCKET}")),
                    heard(ROUTES_NOTICE.to_owned()),
                ]);
                imports.extend(
                    [ROUTES_KEY, OPENAPI_KEY, ASYNCAPI_KEY]
                        .map(|key| api(&format!("DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.{key}"))),
                );
                // For the page.
                imports.push(of_archive(said(format!("concept.{RESERVED_CONCEPT}.*"))));
                imports.push(of_archive(heard(FLOWS_NOTICE.to_owned())));
                imports.extend(self.open.iter().map(|(concept, action)| Import {
                    from: User::Worker(concept.clone()).account(),
                    ..said(subject::service(concept.as_str(), action.as_str()))
                }));
                imports
            }
            User::Router => {
                let mut imports = vec![
                    said("action.*.*.*".to_owned()),
                    said(format!("done.*.{RESERVED_CONCEPT}.*.*")),
                    said("dead.*.*".to_owned()),
                    api_of_many(&format!("DIRECT.GET.{LOG}")),
                    api(&format!("STREAM.PURGE.{LOG}")),
                    api(&format!("CONSUMER.UNPIN.{LOG}.{ROUTERS}")),
                ];
                imports.extend(consumer(LOG, ROUTERS));
                imports.extend(bucket(BUCKET));
                imports.extend(self.concepts.iter().map(|concept| Import {
                    from: User::Worker(concept.clone()).account(),
                    ..said(format!("concept.{concept}.*"))
                }));
                imports
            }
            User::Archive => self.archive(),
            User::Setup | User::Operator if self.together => Vec::new(),
            User::Setup | User::Operator => {
                let mut imports = service(REQUESTING, &User::Edge.account());
                imports.extend(service(RESERVED_CONCEPT, &User::Archive.account()));
                imports.push(of_archive(heard(FLOWS_NOTICE.to_owned())));
                for concept in &self.concepts {
                    let account = User::Worker(concept.clone()).account();
                    imports.extend(service(concept.as_str(), &account));
                }
                imports
            }
        }
    }

    /// All that it takes to read the log and the dead letters, the rules that were in force, and
    /// how far everybody is.
    fn archive(&self) -> Vec<Import> {
        let mut imports = vec![
            said("dead.*.*".to_owned()),
            api_of_many(&format!("DIRECT.GET.{LOG}")),
            api(&format!("STREAM.INFO.KV_{BUCKET}")),
            api(&format!("DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.>")),
            api(&format!("CONSUMER.UNPIN.{LOG}.{ARCHIVES}")),
            api(&format!("CONSUMER.INFO.{LOG}.{ROUTERS}")),
        ];
        imports.extend(consumer(LOG, ARCHIVES));
        imports.extend(consumer(DEAD, ARCHIVES));
        let concepts = self.concepts.iter().map(ConceptName::as_str).chain([REQUESTING]);
        imports.extend(
            concepts.map(|concept| api(&format!("CONSUMER.INFO.ACTIONS_{concept}.{WORKERS}"))),
        );
        imports
    }

    /// What keeps an operator from mistakes, and no more: whoever is in the account of the streams
    /// could do everything there by a detour (ADR 12).
    fn permissions(&self, user: &User) -> String {
        if *user != User::Operator {
            return String::new();
        }
        let mut denied: Vec<String> = ["done.>", "$KV.>"].map(str::to_owned).to_vec();
        denied.extend(
            ["CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE"]
                .map(|verb| format!("$JS.API.STREAM.{verb}.>")),
        );
        let concepts = self.concepts.iter().map(ConceptName::as_str).chain([REQUESTING]);
        let queues = concepts.map(|concept| (format!("ACTIONS_{concept}"), WORKERS));
        let mut consumers: Vec<_> = queues.chain([(LOG.to_owned(), ROUTERS)]).collect();
        denied.extend(
            consumers.iter().map(|(stream, _)| format!("$JS.API.STREAM.MSG.DELETE.{stream}")),
        );
        // Dead letters are the operator's to delete.
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

    /// The block `accounts` of the server's configuration; `keys` are the public keys of a user, of
    /// which there are two while they are rotated.
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
        let mut text = String::from(if self.together { TOGETHER } else { APART }) + "accounts {\n";
        for (account, imports) in &imports {
            let whose = users.iter().filter(|user| user.account() == *account);
            // Writing to a string does not fail.
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
                    Kind::Said => ("service", ""),
                    Kind::Asked => ("service", ", response: stream"),
                    Kind::Heard => ("stream", ""),
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
                let what = if *kind == Kind::Heard { "stream" } else { "service" };
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
