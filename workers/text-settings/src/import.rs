//! Imports the text settings of another system (ADR 51).

use std::collections::HashMap;

use concert_worker::Stop;
use concert_worker::store::{Import, ImportReport};
use serde::Deserialize;

use super::{Stored, Style, Subject, TextSettings};

#[derive(Deserialize)]
struct OldSettings {
    #[serde(rename = "_id")]
    id: String,
    #[serde(flatten)]
    style: Style,
}

/// The settings of a user or a document, whose id it has.
#[derive(Deserialize)]
struct OldUse {
    #[serde(rename = "_id")]
    of: String,
    #[serde(alias = "defaultTextSettingsId", rename = "currentTextSettingsId")]
    settings: String,
}

impl TextSettings {
    /// Leaves out settings of deleted users and removed documents. Replaces unusable ones, because
    /// a user without defaults could not change them.
    pub(crate) async fn import(&self, mut import: Import) -> Result<ImportReport, Stop> {
        let users = import.ids("Profile.users").await?;
        let owners = import.owners("Library.libraries", "documents", "user").await?;
        let mut subjects = HashMap::new();
        for collection in ["TextSettings.userDefaults", "TextSettings.documentCurrents"] {
            let is_of_user = collection == "TextSettings.userDefaults";
            let mut uses = import.read(collection).await?;
            while let Some(OldUse { of, settings }) = import.next(&mut uses).await? {
                let subject = match is_of_user {
                    true => Subject { document: None, user: Some(of) },
                    false => Subject { user: owners.get(&of).cloned(), document: Some(of) },
                };
                if subject.user.as_ref().is_some_and(|user| users.contains(user)) {
                    subjects.insert(settings, subject);
                }
            }
        }
        let mut settings = import.read("TextSettings.textSettings").await?;
        while let Some(OldSettings { id, mut style }) = import.next(&mut settings).await? {
            let Some(subject) = subjects.remove(&id) else {
                import.leave(&self.settings);
                continue;
            };
            if import.skips(&self.settings, &id).await? {
                continue;
            }
            if let Err(why) = style.check() {
                import.note(&self.settings, &id, format!("replaced by the default: {why}"));
                let (font, font_size, line_height) = ("serif", 16.into(), 24.into());
                style = Style { font: font.to_owned(), font_size, line_height };
            }
            let stored = Stored { style, subject: subject.key(), owner: subject.user };
            import.add_new(&self.settings, &id, &stored).await?;
        }
        Ok(import.finished())
    }
}
