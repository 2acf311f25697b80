//! A complete example of a concept: named labels for items.

use concert_worker::store::{Change, Changed, Deleted, Documents, Found, Inserted, Page};
use concert_worker::{Call, NoSettings, Query, Start, StartError, Stop, Worker, concept, refused};
use serde::{Deserialize, Serialize};

/// The worker of Label.
pub fn worker() -> Worker {
    concept(include_str!("../concepts/Label.concept"))
        .open(Labels::open)
        .action("create", Labels::create)
        .action("rename", Labels::rename)
        .action("delete", Labels::delete)
        .action("deleteAll", Labels::delete_all)
        .query("_named", Labels::named)
        .query("_getLabels", Labels::get_labels)
        .build()
}

#[derive(Serialize, Deserialize)]
struct Label {
    name: String,
    item: String,
}

#[derive(Deserialize)]
struct Rename {
    label: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct OfLabel {
    label: String,
}

#[derive(Deserialize)]
struct OfItem {
    item: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Serialize)]
struct Row {
    label: String,
    #[serde(flatten)]
    value: Label,
}

struct Labels {
    labels: Documents<Label>,
}

const LONGEST_NAME: usize = 64;

impl Labels {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        let labels = start.documents("labels").unique("name").lookup("item");
        Ok(Self { labels: labels.open().await? })
    }

    async fn create(&self, call: Call<Label>) -> Result<OfLabel, Stop> {
        check(&call.input.name)?;
        let label = call.new_id("label");
        match self.labels.insert(call.permit().await?, &label, &call.input).await? {
            Inserted::Done => Ok(OfLabel { label }),
            Inserted::Taken(_) => Err(refused("The name is taken")),
        }
    }

    async fn rename(&self, call: Call<Rename>) -> Result<OfLabel, Stop> {
        let Rename { label, name } = &call.input;
        check(name)?;
        let change = Change::set("name", name);
        match self.labels.update(call.permit().await?, label, change).await? {
            Changed::Done => Ok(OfLabel { label: label.clone() }),
            Changed::NotThere => Err(refused("There is no such label")),
            Changed::Taken(_) => Err(refused("The name is taken")),
        }
    }

    async fn delete(&self, call: Call<OfLabel>) -> Result<(), Stop> {
        match self.labels.delete(call.permit().await?, &call.input.label).await? {
            Deleted::Done => Ok(()),
            Deleted::NotThere => Err(refused("There is no such label")),
        }
    }

    async fn delete_all(&self, call: Call<OfItem>) -> Result<(), Stop> {
        let labels = Page::of("item", &call.input.item);
        self.labels.for_each(&call, &labels, &Change::deletion()).await?;
        Ok(())
    }

    async fn named(&self, query: Query<Named>) -> Result<Option<Row>, Stop> {
        Ok(self.labels.find("name", &query.input.name).await?.map(row))
    }

    async fn get_labels(&self, query: Query<OfItem>) -> Result<Vec<Row>, Stop> {
        let page = Page::of("item", &query.input.item).limit(1000);
        Ok(self.labels.page(page).await?.into_iter().map(row).collect())
    }
}

fn row(Found { id: label, value, .. }: Found<Label>) -> Row {
    Row { label, value }
}

fn check(name: &str) -> Result<(), Stop> {
    if name.chars().count() > LONGEST_NAME {
        return Err(refused("The name is too long"));
    }
    Ok(())
}
