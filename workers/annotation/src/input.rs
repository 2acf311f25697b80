//! Inputs of Annotation's actions.

use concert_worker::{Stop, refused};
use serde::{Deserialize, Serialize};

use crate::colour::is_colour;

/// Text and place of an annotation. All keys are optional in a change.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) color: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
}

impl Fields {
    pub(crate) fn check_new(&self) -> Result<(), Stop> {
        if self.color.is_none() && self.content.is_none() {
            return Err(refused("Either color or content must be provided."));
        }
        self.check_values()
    }

    pub(crate) fn check_change(&self) -> Result<(), Stop> {
        let Self { location, tags, color, content } = self;
        if location.is_none() && tags.is_none() && color.is_none() && content.is_none() {
            return Err(refused("No fields provided for update."));
        }
        self.check_values()
    }

    fn check_values(&self) -> Result<(), Stop> {
        if self.color.as_deref().is_some_and(|color| !is_colour(color)) {
            return Err(refused("The color is not an HTML color."));
        }
        if self.location.as_deref().is_some_and(|location| location.trim().is_empty()) {
            return Err(refused("The location is empty."));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
pub(crate) struct NewTag {
    pub(crate) creator: String,
    pub(crate) title: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Register {
    pub(crate) document_id: String,
    pub(crate) creator_id: String,
}

#[derive(Deserialize)]
pub(crate) struct New {
    pub(crate) creator: String,
    pub(crate) document: String,
    #[serde(flatten)]
    pub(crate) fields: Fields,
}

#[derive(Deserialize)]
pub(crate) struct Update {
    pub(crate) user: String,
    pub(crate) annotation: String,
    #[serde(flatten)]
    pub(crate) fields: NewFields,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewFields {
    new_location: Option<String>,
    new_tags: Option<Vec<String>>,
    new_color: Option<String>,
    new_content: Option<String>,
}

impl From<NewFields> for Fields {
    fn from(new: NewFields) -> Self {
        Self {
            location: new.new_location,
            tags: new.new_tags,
            color: new.new_color,
            content: new.new_content,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct ById {
    pub(crate) user: String,
    pub(crate) annotation: String,
}

#[derive(Deserialize)]
pub(crate) struct Search {
    pub(crate) user: String,
    pub(crate) document: String,
    pub(crate) criteria: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfDocument {
    pub(crate) document_id: String,
}

#[derive(Deserialize)]
pub(crate) struct OfUser {
    pub(crate) user: String,
}
