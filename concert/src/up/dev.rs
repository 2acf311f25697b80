//! `concert dev`: reloads what changes while the application runs. The router reloads the rules
//! itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use concert_lang::concept;
use concert_runtime::bus::Bus;
use concert_runtime::keys::Purpose;
use concert_runtime::process::Shutdown;
use concert_runtime::streams;
use concert_wire::access::{Access, User};
use concert_wire::name::ConceptName;
use concert_worker::Worker;
use serde_json::Value;
use tokio::time::Instant;

use super::changes::{Changes, is_below};
use super::children::Children;
use super::servers::Addresses;
use super::stack::{self, Stack};
use super::{Run, plans, prepare_keys};
use crate::config::{SettingFlags, Settings, of};
use crate::running::Announcement;
use crate::setup::KeyFiles;
use crate::{access, keys, output, workers};

/// Timeout of the activation of a new NATS user.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of one attempt, and delay before the next one.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPT_DELAY: Duration = Duration::from_millis(100);

/// Watches the files of an application from now on.
pub(super) fn changes(settings: &Settings, flags: &SettingFlags<of::Up>) -> Changes {
    Changes::of(watched(settings, flags))
}

/// Settings, specs, rules, and the sources of workers.
fn watched(settings: &Settings, flags: &SettingFlags<of::Up>) -> BTreeSet<PathBuf> {
    let mut watched = of_application(settings, flags);
    for own in settings.concepts.values() {
        watched.extend(sources(&own.watch, flags));
    }
    watched
}

/// Settings, specs and rules.
fn of_application(settings: &Settings, flags: &SettingFlags<of::Up>) -> BTreeSet<PathBuf> {
    let rules = &settings.rules;
    BTreeSet::from([flags.file(), rules.concepts.clone(), rules.syncs.clone()])
}

fn sources(watch: &[PathBuf], flags: &SettingFlags<of::Up>) -> impl Iterator<Item = PathBuf> {
    let dir = flags.app_dir();
    watch.iter().map(move |path| dir.join(path))
}

/// The running application, and how to change it.
pub(super) struct Dev<'a> {
    changes: Changes,
    flags: &'a SettingFlags<of::Up>,
    workers: &'a [Worker],
    servers: &'a Addresses,
    settings: Settings,
    /// The settings of all sections but `workers`.
    other_settings: Value,
    access: Access,
    supervisor: Bus,
    shutdown: Shutdown,
    /// Workers of this program that were added while it runs.
    added: Vec<stack::RunningWorker>,
}

impl<'a> Dev<'a> {
    pub(super) fn new(
        run: &Run<'a>,
        changes: Changes,
        servers: &'a Addresses,
        access: Access,
        stack: &Stack,
    ) -> Self {
        Self {
            changes,
            flags: &run.args.settings,
            workers: run.workers,
            servers,
            settings: run.loaded.settings.clone(),
            other_settings: run.loaded.without_workers(),
            access,
            supervisor: stack.supervisor().clone(),
            shutdown: stack.shutdown().clone(),
            added: Vec::new(),
        }
    }

    /// Reloads what changes, until this is dropped. Does nothing without `dev`.
    pub(super) async fn run(
        dev: Option<&mut Self>,
        children: &mut Children,
        announcement: &Announcement,
    ) {
        let Some(dev) = dev else { return std::future::pending().await };
        loop {
            let changed = dev.changes.next().await;
            let restarted = dev.outdated(&changed);
            let own = of_application(&dev.settings, dev.flags);
            if changed.iter().any(|path| is_below(path, &own))
                && let Err(error) = Box::pin(dev.reload(children, announcement)).await
            {
                output::print_error(&error);
            }
            for concept in restarted {
                children.restart(&concept);
            }
            dev.changes.rewatch(watched(&dev.settings, dev.flags));
        }
    }

    /// Returns when the added workers have finished their actions.
    pub(super) async fn ended(self) {
        for worker in self.added {
            worker.ended().await;
        }
    }

    /// The concepts whose programs have another source or spec now.
    fn outdated(&self, changed: &BTreeSet<PathBuf>) -> Vec<String> {
        let specs: BTreeSet<String> = changed.iter().filter_map(|path| spec_name(path)).collect();
        let is_outdated = |watch: &[PathBuf]| {
            let sources = sources(watch, self.flags).collect();
            changed.iter().any(|path| is_below(path, &sources))
        };
        let concepts = self.settings.concepts.iter();
        concepts
            .filter(|(name, own)| specs.contains(*name) || is_outdated(&own.watch))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Reads settings and specs again. Adds new concepts, and starts and stops programs.
    async fn reload(
        &mut self,
        children: &mut Children,
        announcement: &Announcement,
    ) -> anyhow::Result<()> {
        let loaded = self.flags.load(self.workers)?;
        let other_settings = loaded.without_workers();
        if other_settings != self.other_settings {
            output::print_line(
                "changed settings outside of [workers] take effect when `concert dev` is restarted",
            );
            self.other_settings = other_settings;
        }
        let settings = Settings {
            concepts: loaded.settings.concepts,
            workers: loaded.settings.workers,
            ..self.settings.clone()
        };
        // The router reports errors in specs.
        let Ok(access) = access::of(&settings, !settings.nats.isolate) else { return Ok(()) };
        self.admit(&settings, &access, announcement).await?;
        let plans = plans::all(&settings, self.servers, &self.flags.app_dir())?;
        (self.settings, self.access) = (settings, access);
        children.apply(plans).await;
        Ok(())
    }

    /// Creates the users and streams of new concepts, and starts the workers of this program.
    async fn admit(
        &mut self,
        settings: &Settings,
        access: &Access,
        announcement: &Announcement,
    ) -> anyhow::Result<()> {
        let known = self.access.users();
        let users: Vec<User> =
            access.users().into_iter().filter(|user| !known.contains(user)).collect();
        let is_new = |name: &&ConceptName| !self.access.concepts().contains(name);
        let concepts: Vec<&ConceptName> = access.concepts().iter().filter(is_new).collect();
        if users.is_empty() && concepts.is_empty() {
            return Ok(());
        }
        let created = prepare_keys(settings, access, self.workers)?;
        let keys_dir = settings.app.keys_dir();
        let purposes = Purpose::all(workers::own_keys(self.workers));
        let keys = KeyFiles { dir: &keys_dir, purposes, created: &created, accept_new: false };
        stack::prepare_servers(settings, self.servers, access, &self.supervisor, &keys).await?;
        if self.servers.has_own_nats {
            for user in &users {
                self.activate(settings, user, announcement).await?;
            }
        }
        for concept in concepts {
            output::print_line(format_args!("{concept}: the concept is new"));
            let own = self.workers.iter().find(|worker| worker.concept() == concept.as_str());
            if let Some(worker) = own.filter(|_| !settings.is_external(concept.as_str())) {
                let shutdown = self.shutdown.clone();
                let started = stack::start_worker(worker, settings, self.servers, shutdown).await?;
                self.added.push(started);
            }
        }
        Ok(())
    }

    /// Makes the NATS server read its users, until the new one can use the streams: nats-server
    /// 2.15.1 may need a second signal.
    async fn activate(
        &self,
        settings: &Settings,
        user: &User,
        announcement: &Announcement,
    ) -> anyhow::Result<()> {
        let bus = stack::bus_args(settings, self.servers, user);
        let began = Instant::now();
        loop {
            if let Some(pid) = announcement.nats_pid() {
                keys::hang_up(pid).context("cannot notify the NATS server of a new user")?;
            }
            let attempt = async {
                let bus = Bus::connect(&bus, "concert-dev").await?;
                streams::existing_log(&bus).await?;
                anyhow::Ok(())
            };
            let result = tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await;
            let error = match result.map_err(anyhow::Error::from).flatten() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if began.elapsed() > USER_TIMEOUT {
                let name = user.name();
                return Err(error.context(format!("the NATS server rejects the new user `{name}`")));
            }
            tokio::time::sleep(ATTEMPT_DELAY).await;
        }
    }
}

/// The concept of a spec file.
fn spec_name(path: &Path) -> Option<String> {
    let is_spec = path.extension().is_some_and(|extension| extension == "concept");
    let text = is_spec.then(|| std::fs::read_to_string(path).ok()).flatten()?;
    let spec = concept::parse_one(&path.display().to_string(), &text).ok()?;
    Some(spec.name.to_string())
}
