//! Differences between a spec and its handlers.

use std::fmt;

use concert_lang::spec::{ConceptSpec, Rows};
use concert_wire::name::ConceptName;

/// All differences between a spec and its handlers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mismatch {
    concept: String,
    differences: Vec<Difference>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Difference {
    #[error("the spec is invalid:\n{0}")]
    Spec(String),
    #[error("action `{0}` has no handler; register one with .action(\"{0}\", …)")]
    NoAction(String),
    #[error("query `{0}` has no handler; register one with .query(\"{0}\", …)")]
    NoQuery(String),
    #[error("handler `{0}` has no action in the spec")]
    UnknownAction(String),
    #[error("handler `{0}` has no query in the spec")]
    UnknownQuery(String),
    #[error("`{0}` has two handlers")]
    Twice(String),
    #[error(
        "query `{name}` returns {spec} in the spec, but its handler returns {handler}",
        spec = of_spec(*.spec),
        handler = of_handler(*.handler)
    )]
    Rows { name: String, spec: Rows, handler: Rows },
}

fn of_spec(rows: Rows) -> &'static str {
    match rows {
        Rows::One => "exactly one row",
        Rows::AtMostOne => "at most one row",
        Rows::Any => "any number of rows",
    }
}

fn of_handler(rows: Rows) -> &'static str {
    match rows {
        Rows::One => "One<…>",
        Rows::AtMostOne => "Option<…>",
        Rows::Any => "Vec<…>",
    }
}

/// The names that were registered.
#[derive(Debug, Default)]
pub(super) struct Registered {
    pub(super) actions: Vec<String>,
    pub(super) queries: Vec<(String, Rows)>,
}

impl Mismatch {
    pub(super) fn of_spec(concept: &str, why: String) -> Self {
        Self { concept: concept.to_owned(), differences: vec![Difference::Spec(why)] }
    }

    /// Compares a spec with what was registered.
    pub(super) fn find(spec: &ConceptSpec, registered: &Registered) -> Result<ConceptName, Self> {
        let name = spec.name.parse::<ConceptName>();
        let mut differences = Vec::new();
        if let Err(error) = &name {
            differences.push(Difference::Spec(error.to_string()));
        }
        let is_action = |name: &str| spec.actions.iter().any(|action| &*action.name == name);
        for action in &spec.actions {
            if !registered.actions.iter().any(|known| **known == *action.name) {
                differences.push(Difference::NoAction(action.name.to_string()));
            }
        }
        for query in &spec.queries {
            let handler = registered.queries.iter().find(|(name, _)| **name == *query.name);
            differences.extend(match handler {
                None => Some(Difference::NoQuery(query.name.to_string())),
                Some((_, rows)) if *rows != query.rows => Some(Difference::Rows {
                    name: query.name.to_string(),
                    spec: query.rows,
                    handler: *rows,
                }),
                Some(_) => None,
            });
        }
        let unknown = registered.actions.iter().filter(|name| !is_action(name));
        differences.extend(unknown.map(|name| Difference::UnknownAction(name.clone())));
        let is_query = |name: &str| spec.queries.iter().any(|query| &*query.name == name);
        let unknown = registered.queries.iter().filter(|(name, _)| !is_query(name));
        differences.extend(unknown.map(|(name, _)| Difference::UnknownQuery(name.clone())));
        let mut names: Vec<&String> = registered.actions.iter().collect();
        names.extend(registered.queries.iter().map(|(name, _)| name));
        names.sort_unstable();
        let twice = names.windows(2).filter_map(|pair| match pair {
            [one, other] if one == other => Some(Difference::Twice((*one).clone())),
            _ => None,
        });
        differences.extend(twice);
        match name {
            Ok(name) if differences.is_empty() => Ok(name),
            _ => Err(Self { concept: spec.name.to_string(), differences }),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let concept = &self.concept;
        write!(f, "the spec {concept}.concept and the handlers of {concept} differ:")?;
        for difference in &self.differences {
            write!(f, "\n  {difference}")?;
        }
        Ok(())
    }
}
