//! A model of a queue that delivers late, twice, out of order and to one of two routers, with
//! crashes, evictions and failing publishes.
//!
//! In every case, the invocations that are stored at the end equal those of a run in order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const RULES: &str = r#"
sync Start
when
    Requesting.request (path: "/go", item) : (request)
then
    Shop.price (item) : (cents)
    Shop.sell (item, cents) : (sale)
    Shop.pack (sale) : (parcel)
    Requesting.respond (request, parcel)
else (error)
    Shop.note (text: error)
    Requesting.respond (request, error)

sync Also
when
    Requesting.request (path: "/go", item) : (request)
then
    Shop.price (item: "also " + item)

sync Both
when
    Shop.price (item: one) : (cents: first)
    Shop.price (item: two) : (cents: second)
then
    Shop.note (text: one + two)

sync Failed
when
    Requesting.request (path: "/go") : (request)
    Shop.price (item) : (error)
    Shop.sell () : (sale)
then
    Shop.note (text: item + sale)

sync Sold
when
    Shop.sell (item) : (sale)
    Shop.pack (sale) : (parcel)
then
    Shop.note (text: item + parcel)

sync Tagged
when
    Shop.price (item) : (cents)
where
    Shop._tags (item) : (tag)
    some Shop._tags (item: tag)
    Shop._stock (item: tag) : (count)
    collect (tag, count) as found
    each one in found
then
    Shop.note (text: item + " " + one.tag)
    Shop.note (text: "then")

// Exactly one of these two fires, for any result at any time.
sync Owned
when
    Shop.price (item) : (cents)
where
    some Shop._owner (item)
then
    Shop.note (text: "owner? " + item)

sync NotOwned
when
    Shop.price (item) : (cents)
where
    no Shop._owner (item)
then
    Shop.note (text: "owner? " + item)
"#;

/// Other rules, activated between the roots. They call actions with `newly …` instead of `also …`,
/// and have one more rule, which makes a note.
fn newer_rules() -> String {
    format!(
        "{}\nsync Newer\nwhen\n    Shop.price (item) : (cents)\nthen\n    Shop.note (text: \"newer \" + item)\n",
        RULES.replace("also ", "newly ")
    )
}

/// The rows of a query: a function of its input, except for `_owner`, which alternates.
fn rows(question: &Question, asked: usize) -> Vec<Object> {
    let item = question.input["item"].as_str().unwrap();
    let rows = match &*question.query {
        "_tags" => {
            (0..item.len() % 3).map(|number| json!({ "tag": format!("{item}{number}") })).collect()
        }
        "_stock" => vec![json!({ "count": item.len() })],
        "_owner" => vec![json!({ "user": "u" }); asked % 2],
        other => panic!("{other}"),
    };
    rows.into_iter().map(|row| row.as_object().unwrap().clone()).collect()
}

/// The outcome of an action: a function of its id, the same for every delivery.
fn outcome(invocation: &Invocation) -> Value {
    let number = invocation.id.uuid().as_u128() % 997;
    let fails = number.is_multiple_of(4);
    match &*invocation.action {
        "price" | "sell" if fails => json!({ "error": format!("no {number}") }),
        "price" => json!({ "cents": number }),
        "sell" => json!({ "sale": format!("s{number}") }),
        "pack" => json!({ "parcel": format!("p{number}") }),
        _ => json!({}),
    }
}

struct World {
    versions: Vec<Arc<Program>>,
    limits: Limits,
    routers: [Engine; 2],
    log: Vec<Logged>,
    /// Invocations without a completion so far.
    waiting: Vec<Invocation>,
    /// Every invocation that was ever stored.
    stored: BTreeMap<ActionId, String>,
    /// Sequences to deliver, for the first time or again.
    unacknowledged: BTreeSet<u64>,
    /// Pending effects, by router.
    asked: Vec<(usize, Effect)>,
    /// Publishes in flight, by router and completion.
    in_flight: BTreeMap<(usize, u64), usize>,
    /// Number of queries that were run.
    answered: usize,
}

impl World {
    fn new(limits: Limits) -> Self {
        let routers = [Engine::without_rules(limits), Engine::without_rules(limits)];
        let mut world = Self {
            versions: vec![Arc::new(program(RULES)), Arc::new(program(&newer_rules()))],
            limits,
            routers,
            log: Vec::new(),
            waiting: Vec::new(),
            stored: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
            asked: Vec::new(),
            in_flight: BTreeMap::new(),
            answered: 0,
        };
        for number in 1..=3 {
            match number {
                1 => world.put_in_force(0),
                3 => world.put_in_force(1),
                _ => {}
            }
            let root = ActionId::injected("world", number, number);
            let output = json!({ "request": root.to_string() });
            world.append(
                root.as_root(),
                "Requesting",
                "request",
                root,
                json!({"path": "/go", "item": format!("i{number}")}),
                output,
            );
        }
        world
    }

    fn put_in_force(&mut self, version: usize) {
        let version = self.versions[version].version.clone();
        let id = ActionId::activation(self.log.len() as u64, &version);
        let input = json!({ "rules": version });
        self.append(FlowId::of_rules(), "Concert", "inForce", id, input, json!({}));
    }

    fn append(
        &mut self,
        flow: FlowId,
        concept: &str,
        action: &str,
        id: ActionId,
        input: Value,
        output: Value,
    ) {
        let seq = self.log.len() as u64 + 1;
        let object = |value: Value| value.as_object().unwrap().clone();
        let body = Completion { input: object(input), output: object(output) };
        self.log.push(Logged {
            seq,
            flow,
            concept: concept.into(),
            action: action.into(),
            id,
            body,
            bytes: 100,
            context: Context::default(),
        });
        self.unacknowledged.insert(seq);
    }

    fn deliver(&mut self, router: usize, seq: u64) {
        let logged = self.log[seq as usize - 1].clone();
        self.step(router, Event::Delivered(logged));
    }

    fn step(&mut self, router: usize, event: Event) {
        for effect in self.routers[router].step(event) {
            match &effect {
                Effect::Invoke { seq, .. }
                | Effect::Complete { seq, .. }
                | Effect::Record { seq, .. }
                | Effect::Ask { seq, .. }
                | Effect::Adopt { seq, .. } => {
                    *self.in_flight.entry((router, *seq)).or_default() += 1
                }
                Effect::Ack { seq } | Effect::Retry { seq } => {
                    assert_eq!(
                        self.in_flight.get(&(router, *seq)).copied().unwrap_or(0),
                        0,
                        "settled before its publishes were"
                    );
                    if matches!(effect, Effect::Ack { .. }) {
                        self.unacknowledged.remove(seq);
                    }
                    continue;
                }
                Effect::DeadLetter { reason, .. } => panic!("{reason}"),
                Effect::ReadFlow { .. } | Effect::ReadRules { .. } | Effect::FetchRules { .. } => {}
            }
            self.asked.push((router, effect));
        }
    }

    /// Stores an invocation; returns whether it is new.
    fn store(&mut self, invocation: &Invocation) -> bool {
        let Invocation { concept, action, id, body, .. } = invocation;
        let text = format!("{concept}.{action} {}", String::from_utf8_lossy(body));
        match self.stored.insert(*id, text.clone()) {
            Some(before) => {
                assert_eq!(before, text, "one id, two actions");
                false
            }
            None => true,
        }
    }

    /// Completes one pending effect. `well` is false if the publish or read fails.
    fn answer(&mut self, number: usize, well: bool) {
        let (router, effect) = self.asked.swap_remove(number);
        match effect {
            Effect::Complete { seq, invocation, body } => {
                *self.in_flight.get_mut(&(router, seq)).unwrap() -= 1;
                if !well {
                    return self.step(router, Event::NotStored { seq });
                }
                if self.store(&invocation) {
                    let body = Completion::decode(&body).unwrap();
                    let Invocation { flow, concept, action, id, .. } = invocation;
                    let (input, output) = (Value::Object(body.input), Value::Object(body.output));
                    self.append(flow, &concept, &action, id, input, output);
                }
                self.step(router, Event::Stored { seq });
            }
            Effect::Invoke { seq, invocation } => {
                *self.in_flight.get_mut(&(router, seq)).unwrap() -= 1;
                if !well {
                    return self.step(router, Event::NotStored { seq });
                }
                if self.store(&invocation) {
                    self.waiting.push(invocation);
                }
                self.step(router, Event::Stored { seq });
            }
            Effect::ReadRules { .. } if !well => self.step(router, Event::RulesUnreadable),
            Effect::ReadRules { .. } => {
                let in_force = self.log.iter().filter(|logged| logged.flow == FlowId::of_rules());
                let history = in_force.map(|logged| {
                    (logged.seq, logged.body.input["rules"].as_str().unwrap().into())
                });
                let (history, through) = (history.collect(), self.log.len() as u64);
                self.step(router, Event::RulesRead { through, history });
            }
            Effect::FetchRules { version } => {
                let found = self.versions.iter().find(|program| *program.version == *version);
                let event = match found.filter(|_| well) {
                    Some(program) => Event::RulesFetched(program.clone()),
                    None => Event::RulesUnavailable,
                };
                self.step(router, event);
            }
            Effect::Adopt { seq, .. } => {
                *self.in_flight.get_mut(&(router, seq)).unwrap() -= 1;
                let event = if well { Event::Stored { seq } } else { Event::NotStored { seq } };
                self.step(router, event);
            }
            Effect::Ask { seq, batch, .. } => {
                *self.in_flight.get_mut(&(router, seq)).unwrap() -= 1;
                if !well {
                    return self.step(router, Event::Unanswered { seq });
                }
                self.answered += 1;
                let rows = batch.questions().map(|of| rows(&of, self.answered)).collect();
                self.step(router, Event::Answered { seq, batch, rows });
            }
            Effect::Record { seq, record } => {
                *self.in_flight.get_mut(&(router, seq)).unwrap() -= 1;
                if !well {
                    return self.step(router, Event::NotStored { seq });
                }
                // The log rejects a second record of a completion.
                if self.log.iter().all(|logged| logged.id != record.id) {
                    let body = Completion::decode(&record.body).unwrap();
                    let (input, output) = (Value::Object(body.input), Value::Object(body.output));
                    self.append(record.flow, "Concert", "fired", record.id, input, output);
                }
                self.step(router, Event::Stored { seq });
            }
            Effect::ReadFlow { flow, .. } if well => {
                let log = self.log.iter().filter(|logged| logged.flow == flow).cloned().collect();
                let through = self.log.len() as u64;
                self.step(router, Event::FlowRead { flow, through, log });
            }
            Effect::ReadFlow { flow, .. } => self.step(router, Event::FlowUnreadable { flow }),
            other => panic!("{other:?}"),
        }
    }

    fn work(&mut self, number: usize) {
        let done = self.waiting.swap_remove(number);
        let input = serde_json::from_slice(&done.body).unwrap();
        self.append(done.flow, &done.concept, &done.action, done.id, input, outcome(&done));
    }

    fn crash(&mut self, router: usize) {
        self.routers[router] = Engine::without_rules(self.limits);
        self.asked.retain(|(asking, _)| *asking != router);
        self.in_flight.retain(|(asking, _), _| *asking != router);
    }

    /// One random step.
    fn disturb(&mut self, choice: u8, which: usize) {
        let router = which % 2;
        let pick = |count: usize| (count > 0).then(|| which / 2 % count.max(1));
        match choice % 8 {
            // Rare enough that some work finishes in between.
            0 if which.is_multiple_of(16) => self.crash(router),
            0..=3 => {
                if let Some(seq) = pick(self.unacknowledged.len())
                    .and_then(|number| self.unacknowledged.iter().nth(number).copied())
                {
                    self.deliver(router, seq);
                }
            }
            4 | 5 => {
                if let Some(number) = pick(self.asked.len()) {
                    self.answer(number, !choice.is_multiple_of(7));
                }
            }
            _ => {
                if let Some(number) = pick(self.waiting.len()) {
                    self.work(number);
                }
            }
        }
    }

    /// Completes all pending work, in order.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.asked.is_empty() {
                self.answer(0, true);
            } else if !self.waiting.is_empty() {
                self.work(0);
            } else if let Some(seq) = self.unacknowledged.first().copied() {
                self.deliver(0, seq);
            } else {
                return;
            }
        }
        panic!("the world does not become idle");
    }
}

/// The calls, except for the pair of rules of which either may fire.
fn asked_for(world: &World) -> BTreeMap<ActionId, String> {
    let stored = world.stored.iter().filter(|(_, text)| !text.contains("owner?"));
    stored.map(|(id, text)| (*id, text.clone())).collect()
}

/// Number of firings of that pair of rules, by text.
fn owners(world: &World) -> BTreeMap<&str, usize> {
    let mut owners = BTreeMap::new();
    for text in world.stored.values().filter(|text| text.contains("owner?")) {
        *owners.entry(text.as_str()).or_default() += 1;
    }
    owners
}

fn in_order() -> World {
    let mut world = World::new(Limits::default());
    world.settle();
    world
}

#[test]
fn world_in_order_covers_every_kind_of_action() {
    let world = in_order();
    for kind in [
        "price", "sell", "pack", "note", "respond", "then", "owner?", "also i1", "also i2",
        "newly i3", "newer i3",
    ] {
        assert!(
            world.stored.values().any(|text| text.contains(kind)),
            "{kind}: {:#?}",
            world.stored
        );
    }
    for kind in ["newly i1", "newer i2", "also i3"] {
        assert!(
            world.stored.values().all(|text| !text.contains(kind)),
            "{kind}: {:#?}",
            world.stored
        );
    }
    assert!(world.stored.len() > 20, "{}", world.stored.len());
    let records = world.log.iter().filter(|logged| &*logged.action == "fired");
    assert!(records.count() > 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn same_actions_are_called_in_any_delivery_order(
        steps in prop::collection::vec((any::<u8>(), any::<u16>()), 0..600),
        cached in 1_usize..4,
    ) {
        let cached_flows = NonZeroUsize::new(cached).unwrap();
        let mut world = World::new(Limits { cached_flows, ..Limits::default() });
        for (choice, which) in steps {
            world.disturb(choice, usize::from(which));
        }
        // The log redelivers the messages that were in progress in the crashed routers.
        world.crash(0);
        world.crash(1);
        world.settle();
        let expected = in_order();
        prop_assert_eq!(asked_for(&world), asked_for(&expected));
        prop_assert_eq!(owners(&world), owners(&expected));
    }
}
