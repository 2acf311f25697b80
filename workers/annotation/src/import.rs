//! Imports the annotations of another system, with its tags and views of documents (ADR 51).

use std::collections::HashSet;

use concert_worker::Stop;
use concert_worker::store::{Import, ImportReport};
use serde::Deserialize;

use super::{Annotation, Annotations, Tag, View};
use crate::colour::is_colour;
use crate::input::NewTag;

#[derive(Deserialize)]
struct Old<T> {
    #[serde(rename = "_id")]
    id: String,
    #[serde(flatten)]
    value: T,
}

#[derive(Deserialize)]
struct OldView {
    creator: String,
}

impl Annotations {
    /// Leaves out what belongs to deleted users or removed documents.
    pub(crate) async fn import(&self, mut import: Import) -> Result<ImportReport, Stop> {
        let users = import.ids("Profile.users").await?;
        let owners = import.owners("Library.libraries", "documents", "user").await?;
        let mut tags = import.read("Annotation.tags").await?;
        while let Some(Old { id, value }) = import.next(&mut tags).await? {
            let NewTag { creator, title } = value;
            if users.contains(&creator) {
                import.add(&self.tags, &id, &Tag::new(creator, title)).await?;
            } else {
                import.leave(&self.tags);
            }
        }
        let mut registered = HashSet::new();
        let mut views = import.read("Annotation.documentViews").await?;
        while let Some(old) = import.next(&mut views).await? {
            let Old { id: document, value: OldView { creator } } = old;
            if !users.contains(&creator) || owners.get(&document) != Some(&creator) {
                import.leave(&self.views);
                continue;
            }
            let view = View { document: document.clone(), creator };
            if import.add(&self.views, &document, &view).await? {
                registered.insert(document);
            }
        }
        let mut annotations = import.read("Annotation.annotations").await?;
        while let Some(old) = import.next::<Old<Annotation>>(&mut annotations).await? {
            let Old { id, value: mut annotation } = old;
            let is_owner = owners.get(&annotation.document) == Some(&annotation.creator);
            if !is_owner || !registered.contains(&annotation.document) {
                import.leave(&self.annotations);
                continue;
            }
            if import.skips(&self.annotations, &id).await? {
                continue;
            }
            let fields = &mut annotation.fields;
            fields.location.get_or_insert_default();
            fields.tags.get_or_insert_default();
            if let Some(color) = fields.color.take_if(|color| !is_colour(color)) {
                let what = format!("its color {color:?} is none, and is left out");
                import.note(&self.annotations, &id, what);
                // An annotation has one of the two.
                fields.content.get_or_insert_default();
            }
            import.add_new(&self.annotations, &id, &annotation).await?;
        }
        Ok(import.finished())
    }
}
