//! The concept Annotation: marks and notes of readers in their documents.

mod colour;
mod import;
mod input;

use std::collections::HashSet;

use concert_worker::store::{Change, Changed, Deleted, Documents, Found, Inserted, Page, Target};
use concert_worker::{Call, NoSettings, Start, StartError, Stop, Worker, concept, refused};
use serde::{Deserialize, Serialize};

use self::input::{ById, Fields, New, NewTag, OfDocument, OfUser, Register, Search, Update};

/// The worker of Annotation.
pub fn worker() -> Worker {
    concept(include_str!("../Annotation.concept"))
        .open(Annotations::open)
        .action("createTag", Annotations::create_tag)
        .action("registerDocument", Annotations::register_document)
        .action("createAnnotation", Annotations::create_annotation)
        .action("updateAnnotation", Annotations::update_annotation)
        .action("deleteAnnotation", Annotations::delete_annotation)
        .action("search", Annotations::search)
        .action("deleteDocumentView", Annotations::delete_document_view)
        .action("deleteAll", Annotations::delete_all)
        .import("annotations", Annotations::import)
        .build()
}

#[derive(Serialize, Deserialize)]
struct View {
    document: String,
    creator: String,
}

#[derive(Serialize, Deserialize)]
struct Tag {
    creator: String,
    title: String,
    /// The creator and the title, which are unique together.
    key: String,
}

impl Tag {
    fn new(creator: String, title: String) -> Self {
        Self { key: format!("{creator}/{title}"), creator, title }
    }
}

/// A stored annotation.
#[derive(Serialize, Deserialize)]
struct Annotation {
    creator: String,
    document: String,
    #[serde(flatten)]
    fields: Fields,
}

struct Annotations {
    views: Documents<View>,
    tags: Documents<Tag>,
    annotations: Documents<Annotation>,
}

#[derive(Serialize)]
struct TagId {
    tag: String,
}

#[derive(Serialize)]
struct AnnotationId {
    annotation: String,
}

#[derive(Serialize)]
struct Matches {
    annotations: Vec<Record>,
}

#[derive(Serialize)]
struct Record {
    _id: String,
    #[serde(flatten)]
    annotation: Annotation,
}

impl Annotations {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        let views = start.documents("views").unique("document").lookup("creator");
        let annotations = start.documents("annotations").lookup("creator");
        Ok(Self {
            views: views.open().await?,
            tags: start.documents("tags").unique("key").lookup("creator").open().await?,
            annotations: annotations.lookup_newest("document").open().await?,
        })
    }

    async fn create_tag(&self, call: Call<NewTag>) -> Result<TagId, Stop> {
        let (NewTag { creator, title }, call) = call.split();
        if title.trim().is_empty() {
            return Err(refused("The title is empty."));
        }
        let id = call.new_id("tag");
        let tag = Tag::new(creator, title);
        match self.tags.insert(call.permit().await?, &id, &tag).await? {
            Inserted::Done => Ok(TagId { tag: id }),
            Inserted::Taken(_) => Err(refused("Tag with this title already exists.")),
        }
    }

    async fn register_document(&self, call: Call<Register>) -> Result<(), Stop> {
        let (Register { document_id: document, creator_id: creator }, call) = call.split();
        let view = View { document, creator };
        match self.views.insert(call.permit().await?, &call.new_id("view"), &view).await? {
            Inserted::Done => Ok(()),
            Inserted::Taken(_) => Err(refused("Document is already registered.")),
        }
    }

    /// Reads the view again after it has stored the annotation. A deletion removes the view, then
    /// lists annotations. If both run concurrently, at least one of them sees the other's write and
    /// removes the annotation.
    async fn create_annotation(&self, call: Call<New>) -> Result<AnnotationId, Stop> {
        let (New { creator, document, mut fields }, call) = call.split();
        fields.tags.get_or_insert_default();
        let id = call.new_id("annotation");
        let annotation = Annotation { creator, document, fields };
        if self.may_annotate(&annotation).await? {
            annotation.fields.check_new()?;
            match self.annotations.insert(call.permit().await?, &id, &annotation).await? {
                Inserted::Done if self.may_annotate(&annotation).await? => {
                    return Ok(AnnotationId { annotation: id });
                }
                Inserted::Done | Inserted::Taken(_) => {}
            }
        }
        let _deleted = self.annotations.delete(call.permit().await?, &id).await?;
        Err(refused(
            "Document does not exist in Annotation concept's view or is not owned by the creator.",
        ))
    }

    async fn may_annotate(&self, annotation: &Annotation) -> Result<bool, Stop> {
        let view = self.views.find("document", &annotation.document).await?;
        Ok(view.is_some_and(|view| view.value.creator == annotation.creator))
    }

    async fn update_annotation(&self, call: Call<Update>) -> Result<AnnotationId, Stop> {
        let (Update { user, annotation, fields }, call) = call.split();
        if self.is_done(&call, &user, &annotation).await? {
            return Ok(AnnotationId { annotation });
        }
        let fields = Fields::from(fields);
        fields.check_change()?;
        let change = Change::fields(&fields)?;
        match self.annotations.update(call.permit().await?, &annotation, change).await? {
            Changed::Done => Ok(AnnotationId { annotation }),
            Changed::NotThere | Changed::Taken(_) => Err(not_found()),
        }
    }

    async fn delete_annotation(&self, call: Call<ById>) -> Result<(), Stop> {
        let (ById { user, annotation }, call) = call.split();
        if self.is_done(&call, &user, &annotation).await? {
            return Ok(());
        }
        match self.annotations.delete(call.permit().await?, &annotation).await? {
            Deleted::Done => Ok(()),
            Deleted::NotThere => Err(not_found()),
        }
    }

    /// Returns whether an earlier delivery changed the annotation. Otherwise the user must be its
    /// creator.
    async fn is_done(&self, call: &Call<()>, user: &str, id: &str) -> Result<bool, Stop> {
        match self.annotations.target(call, id).await? {
            Target::Done => Ok(true),
            Target::Live(annotation) if annotation.value.creator == user => Ok(false),
            Target::Live(_) => Err(refused("User is not the creator of this annotation.")),
            Target::NotThere => Err(not_found()),
        }
    }

    /// Finds the annotations of a document that contain the words in their content or in the title
    /// of a tag, ignoring case. Without words, finds all.
    async fn search(&self, call: Call<Search>) -> Result<Matches, Stop> {
        let Search { user, document, criteria } = &call.input;
        match self.views.find("document", document).await? {
            Some(view) if view.value.creator == *user => {}
            Some(_) => return Err(refused(NOT_CREATOR)),
            None => return Err(refused("Document not found in Annotation concept's view.")),
        }
        let page = Page::of("document", document).newest_first();
        let mut found = self.annotations.page(page).await?;
        found.reverse();
        found.retain(|annotation| annotation.value.creator == *user);
        let words = criteria.to_lowercase();
        if !words.is_empty() {
            let contains = |text: &str| text.to_lowercase().contains(&words);
            let tags = self.tags.page(Page::of("creator", user)).await?.into_iter();
            let tags: HashSet<String> =
                tags.filter(|tag| contains(&tag.value.title)).map(|tag| tag.id).collect();
            found.retain(|annotation| {
                let Fields { content, tags: own, .. } = &annotation.value.fields;
                content.as_deref().is_some_and(contains)
                    || own.iter().flatten().any(|tag| tags.contains(tag))
            });
        }
        let record = |Found { id, value, .. }| Record { _id: id, annotation: value };
        Ok(Matches { annotations: found.into_iter().map(record).collect() })
    }

    async fn delete_document_view(&self, call: Call<OfDocument>) -> Result<(), Stop> {
        let document = &call.input.document_id;
        if let Some(view) = self.views.find("document", document).await? {
            let _deleted = self.views.delete(call.permit().await?, &view.id).await?;
        }
        let annotations = Page::of("document", document);
        self.annotations.for_each(&call, &annotations, &Change::deletion()).await.map(drop)
    }

    async fn delete_all(&self, call: Call<OfUser>) -> Result<(), Stop> {
        let own = Page::of("creator", &call.input.user);
        let deletion = Change::deletion();
        self.views.for_each(&call, &own, &deletion).await?;
        self.annotations.for_each(&call, &own, &deletion).await?;
        self.tags.for_each(&call, &own, &deletion).await.map(drop)
    }
}

const NOT_CREATOR: &str =
    "User is not the creator of this document in Annotation concept's view, and cannot search it.";

fn not_found() -> Stop {
    refused("Annotation not found.")
}

#[cfg(test)]
mod tests;
