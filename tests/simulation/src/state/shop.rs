//! A shop for the simulation: its stock changes, so an action that runs twice, or at another time,
//! has another outcome.

use std::collections::BTreeMap;

use concert_wire::id::ActionId;

use super::{Call, Outcome, Plan, Written};

#[derive(Debug, Default)]
pub(crate) struct Item {
    pub(crate) stock: i64,
    /// The ids of the actions that took an item, once for each time.
    pub(crate) sold_by: Vec<ActionId>,
    /// The ids of the actions that added items, once for each time.
    pub(crate) restocked_by: Vec<ActionId>,
}

pub(crate) struct Shop {
    stamps: bool,
    pub(crate) items: BTreeMap<String, Item>,
    /// Parcels and notes, by the id of the action that created them.
    pub(crate) made: BTreeMap<ActionId, String>,
}

const BUYERS: usize = 3;

pub(crate) fn sale(action: ActionId) -> String {
    format!("sale-{action}")
}

impl Shop {
    pub(super) fn new(stamps: bool) -> Self {
        let item = |stock| Item { stock, ..Item::default() };
        let items = [("apple", item(0)), ("pear", item(1))];
        Self {
            stamps,
            items: items.into_iter().map(|(name, item)| (name.to_owned(), item)).collect(),
            made: BTreeMap::new(),
        }
    }

    pub(super) fn stock(&self, item: &str) -> Option<i64> {
        self.items.get(item).map(|item| item.stock)
    }

    /// Only the latest, so that a run with many sales stays small.
    pub(super) fn buyers(&self, item: &str) -> impl Iterator<Item = String> {
        let sold = self.items.get(item).map(|item| item.sold_by.as_slice());
        sold.unwrap_or_default().iter().rev().take(BUYERS).copied().map(sale)
    }

    pub(super) fn read(&self, call: Call<'_>) -> Plan {
        let write = Plan::Write { seen: String::new() };
        match call.action {
            "price" => Plan::Answer(Outcome::done([("cents", call.text("item").len().into())])),
            "count" => Plan::Answer(Outcome::done([("left", (call.number("left") - 1).into())])),
            "spin" => Plan::Answer(Outcome::done([])),
            "sell" => match self.items.get(call.text("item")) {
                Some(item) if self.stamps && item.sold_by.contains(&call.id) => {
                    Plan::Answer(Self::sold(call))
                }
                Some(item) if item.stock > 0 => write,
                _ => Plan::Answer(Outcome::refused("sold out")),
            },
            _ => write,
        }
    }

    fn sold(call: Call<'_>) -> Outcome {
        Outcome::done([("sale", sale(call.id).into())])
    }

    pub(super) fn write(&mut self, call: Call<'_>) -> Written {
        match call.action {
            "sell" => {
                let Some(item) = self.items.get_mut(call.text("item")) else {
                    return Written::Again;
                };
                if self.stamps && item.sold_by.contains(&call.id) {
                    return Written::Before(Self::sold(call));
                }
                if item.stock == 0 {
                    return Written::Again;
                }
                item.stock -= 1;
                item.sold_by.push(call.id);
                Written::Now(Self::sold(call))
            }
            "restock" => {
                let item = self.items.entry(call.text("item").to_owned()).or_default();
                if self.stamps && item.restocked_by.contains(&call.id) {
                    return Written::Before(Outcome::done([]));
                }
                item.stock += call.number("count");
                item.restocked_by.push(call.id);
                Written::Now(Outcome::done([]))
            }
            action => {
                let (text, outcome) = if action == "pack" {
                    let parcel = format!("parcel of {}", call.text("sale"));
                    (parcel.clone(), Outcome::done([("parcel", parcel.into())]))
                } else {
                    (call.text("text").to_owned(), Outcome::done([]))
                };
                match self.made.insert(call.id, text) {
                    Some(_) => Written::Before(outcome),
                    None => Written::Now(outcome),
                }
            }
        }
    }
}
