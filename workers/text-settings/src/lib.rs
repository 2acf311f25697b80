//! The concept TextSettings: fonts and sizes, as defaults of users and for documents.

mod import;

use concert_worker::store::{Change, Changed, Documents, Found, Inserted, Page};
use concert_worker::{Call, NoSettings, Query, Start, StartError, Stop, Worker, concept, refused};
use serde::{Deserialize, Serialize};
use serde_json::Number;

/// The worker of TextSettings.
pub fn worker() -> Worker {
    concept(include_str!("../TextSettings.concept"))
        .open(TextSettings::open)
        .action("createUserSettings", TextSettings::create)
        .action("createDocumentSettings", TextSettings::create)
        .action("editSettings", TextSettings::edit)
        .action("deleteDocumentSettings", TextSettings::delete)
        .action("deleteAll", TextSettings::delete_all)
        .query("_getUserDefaultSettings", TextSettings::get)
        .query("_getDocumentCurrentSettings", TextSettings::get)
        .query("_getTextSettings", TextSettings::get_by_id)
        .query("_getOwner", TextSettings::get_owner)
        .import("settings", TextSettings::import)
        .build()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Style {
    font: String,
    font_size: Number,
    line_height: Number,
}

/// Stored settings, of a user or a document.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    style: Style,
    subject: String,
    owner: Option<String>,
}

#[derive(Deserialize)]
struct New {
    #[serde(flatten)]
    style: Style,
    #[serde(flatten)]
    subject: Subject,
}

/// A document, or the user whose defaults are meant.
#[derive(Deserialize)]
struct Subject {
    document: Option<String>,
    #[serde(alias = "owner")]
    user: Option<String>,
}

#[derive(Deserialize)]
struct Edit {
    #[serde(flatten)]
    style: Style,
    #[serde(rename = "textSettings")]
    id: String,
}

#[derive(Deserialize)]
struct Id {
    #[serde(rename = "textSettings", alias = "textSettingsId")]
    id: String,
}

#[derive(Serialize)]
struct Row<T> {
    settings: T,
}

#[derive(Serialize)]
struct Record {
    _id: String,
    #[serde(flatten)]
    style: Style,
}

#[derive(Serialize, Deserialize)]
struct OfUser {
    user: String,
}

struct TextSettings {
    settings: Documents<Stored>,
}

impl TextSettings {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        let settings = start.documents("settings").unique("subject").lookup("owner");
        Ok(Self { settings: settings.open().await? })
    }

    async fn create(&self, call: Call<New>) -> Result<Row<String>, Stop> {
        let (New { style, subject }, call) = call.split();
        style.check()?;
        let settings = call.new_id("settings");
        let stored = Stored { style, subject: subject.key(), owner: subject.user };
        match self.settings.insert(call.permit().await?, &settings, &stored).await? {
            Inserted::Done => Ok(Row { settings }),
            Inserted::Taken(_) => Err(refused("There are already settings.")),
        }
    }

    async fn edit(&self, call: Call<Edit>) -> Result<(), Stop> {
        let Edit { style, id } = &call.input;
        let missing = || refused(format!("TextSettings with ID {id} not found."));
        self.settings.get(id).await?.ok_or_else(missing)?;
        style.check()?;
        match self.settings.update(call.permit().await?, id, Change::fields(style)?).await? {
            Changed::Done => Ok(()),
            Changed::NotThere | Changed::Taken(_) => Err(missing()),
        }
    }

    async fn delete(&self, call: Call<Subject>) -> Result<(), Stop> {
        if let Some(found) = self.settings.find("subject", &call.input.key()).await? {
            let _deleted = self.settings.delete(call.permit().await?, &found.id).await?;
        }
        Ok(())
    }

    async fn delete_all(&self, call: Call<OfUser>) -> Result<(), Stop> {
        let owned = Page::of("owner", &call.input.user);
        self.settings.for_each(&call, &owned, &Change::deletion()).await.map(drop)
    }

    async fn get(&self, query: Query<Subject>) -> Result<Option<Row<Record>>, Stop> {
        Ok(self.settings.find("subject", &query.input.key()).await?.map(row))
    }

    async fn get_by_id(&self, query: Query<Id>) -> Result<Option<Row<Record>>, Stop> {
        Ok(self.settings.get(&query.input.id).await?.map(row))
    }

    async fn get_owner(&self, query: Query<Id>) -> Result<Option<OfUser>, Stop> {
        let found = self.settings.get(&query.input.id).await?;
        Ok(found.and_then(|found| found.value.owner).map(|user| OfUser { user }))
    }
}

impl Style {
    fn check(&self) -> Result<(), Stop> {
        let value = |number: &Number| number.as_f64().unwrap_or_default();
        let unsafe_in_css = |c: char| c.is_control() || "{}()<>;:\\@/*".contains(c);
        if self.font.trim().is_empty() || self.font.contains(unsafe_in_css) {
            return Err(refused("Invalid font string."));
        }
        if value(&self.font_size) <= 0.0 {
            return Err(refused("Font size must be a positive number."));
        }
        if value(&self.line_height) < value(&self.font_size) {
            return Err(refused("Line height must be greater than or equal to font size."));
        }
        Ok(())
    }
}

impl Subject {
    fn key(&self) -> String {
        match &self.document {
            Some(document) => format!("document/{document}"),
            None => format!("user/{}", self.user.as_deref().unwrap_or_default()),
        }
    }
}

fn row(Found { id, value, .. }: Found<Stored>) -> Row<Record> {
    Row { settings: Record { _id: id, style: value.style } }
}

#[cfg(test)]
mod tests;
