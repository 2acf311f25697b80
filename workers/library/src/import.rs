//! Imports the libraries and documents of another system (ADR 51).

use std::collections::HashMap;

use concert_worker::Stop;
use concert_worker::store::{Import, ImportReport};
use serde::Deserialize;

use super::{Book, Fingerprint, Libraries, Library, place};

const DOCUMENTS: &str = "Library.documents";

#[derive(Deserialize)]
struct OldLibrary {
    #[serde(rename = "_id")]
    id: String,
    user: String,
    documents: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldDocument {
    #[serde(rename = "_id")]
    id: String,
    name: String,
    epub_content: String,
}

impl Libraries {
    /// Leaves out libraries of deleted users, and documents in no library.
    pub(crate) async fn import(&self, mut import: Import) -> Result<ImportReport, Stop> {
        let users = import.ids("Profile.users").await?;
        // The library of each document, and its user.
        let mut places = HashMap::new();
        let mut libraries = import.read("Library.libraries").await?;
        while let Some(old) = import.next::<OldLibrary>(&mut libraries).await? {
            let OldLibrary { id, user, documents } = old;
            if !users.contains(&user) {
                import.leave(&self.libraries);
            } else if import.add(&self.libraries, &id, &Library { user: user.clone() }).await? {
                places.extend(documents.into_iter().map(|of| (of, (id.clone(), user.clone()))));
            } else {
                for document in documents {
                    import.reject(DOCUMENTS, &document, "its library is not imported");
                }
            }
        }
        let mut documents = import.read(DOCUMENTS).await?;
        while let Some(old) = import.next::<OldDocument>(&mut documents).await? {
            let OldDocument { id, name, mut epub_content } = old;
            let Some((library, user)) = places.remove(&id) else {
                import.leave(&self.books);
                continue;
            };
            let name = import.renamed(&id).map_or(name, str::to_owned);
            let content = Fingerprint::of(&mut epub_content).await?;
            let place = place(&library, &name);
            let book = Book { library, user, name, place, content, parts: None };
            if import.add(&self.books, &id, &book).await? {
                self.import_content(&mut import, id, &book, epub_content).await?;
            }
        }
        Ok(import.finished())
    }

    /// Stores the content, unless an earlier import has, or the document was removed.
    async fn import_content(
        &self,
        import: &mut Import,
        document: String,
        book: &Book,
        content: String,
    ) -> Result<(), Stop> {
        let Some(call) = import.call(&self.books, &document) else { return Ok(()) };
        let stored = self.books.get(&document).await?;
        if stored.is_none_or(|stored| stored.value.parts.is_some()) {
            return Ok(());
        }
        match self.fill(&call, document.clone(), book, content).await {
            Ok(_) => {}
            // The library was removed during the import.
            Err(Stop::Refused(why)) => import.reject(DOCUMENTS, &document, why),
            Err(stop) => return Err(stop),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
