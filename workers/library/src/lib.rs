//! The concept Library: the documents of a user.
//!
//! A document is created in three steps: its record, which takes the name; its content; the number
//! of content parts, which makes it visible.

mod content;
mod import;

use concert_worker::store::{Change, Changed, Documents, Found, Inserted, Page, Target};
use concert_worker::{
    Call, Fingerprint, Large, NoSettings, Query, Start, StartError, Stop, Worker, concept, refused,
};
use serde::{Deserialize, Serialize};

use self::content::Contents;

/// The worker of Library.
pub fn worker() -> Worker {
    concept(include_str!("../Library.concept"))
        .open(Libraries::open)
        .action("createLibrary", Libraries::create_library)
        .action("createDocument", Libraries::create_document)
        .action("renameDocument", Libraries::rename_document)
        .action("openDocument", Libraries::require_document)
        .action("closeDocument", Libraries::require_document)
        .action("removeDocument", Libraries::remove_document)
        .action("deleteAll", Libraries::delete_all)
        .query("_getLibraryByUser", Libraries::get_library_by_user)
        .query("_getDocumentsInLibrary", Libraries::get_documents_in_library)
        .query("_getDocumentNames", Libraries::get_document_names)
        .query("_getDocumentDetails", Libraries::get_document_details)
        .query("_getOwner", Libraries::get_owner)
        .query("_getPlace", Libraries::get_place)
        .query("_getDocumentByName", Libraries::get_document_by_name)
        .import("library", Libraries::import)
        .build()
}

#[derive(Serialize, Deserialize)]
struct Library {
    user: String,
}

/// A stored document, without its content.
#[derive(Serialize, Deserialize)]
struct Book {
    library: String,
    user: String,
    name: String,
    /// The library and the name, which are unique together.
    place: String,
    /// Missing if the content has at most 32 KiB, so that it is no large value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Fingerprint>,
    /// The number of content parts; missing until all of them are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<i64>,
}

struct Libraries {
    libraries: Documents<Library>,
    books: Documents<Book>,
    contents: Contents,
}

#[derive(Serialize, Deserialize)]
struct OfUser {
    user: String,
}

#[derive(Serialize, Deserialize)]
struct OfLibrary {
    library: String,
}

#[derive(Serialize, Deserialize)]
struct OfDocument {
    document: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewDocument {
    name: String,
    epub_content: String,
    library: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rename {
    user: String,
    new_name: String,
    document: String,
}

#[derive(Deserialize)]
struct UserDocument {
    user: String,
    document: String,
}

#[derive(Deserialize)]
struct LibraryDocument {
    library: String,
    document: String,
}

#[derive(Deserialize)]
struct Named {
    library: String,
    name: String,
}

#[derive(Serialize)]
struct LibraryRow {
    library: LibraryRecord,
}

#[derive(Serialize)]
struct LibraryRecord {
    _id: String,
    user: String,
    documents: Vec<String>,
}

#[derive(Serialize)]
struct Listed {
    documents: Vec<DocumentRow>,
}

#[derive(Serialize)]
struct DocumentRow {
    document: DocumentRecord,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DocumentRecord {
    #[serde(rename = "_id")]
    id: String,
    name: String,
    epub_content: Large,
}

#[derive(Serialize)]
struct NamedDocuments {
    documents: Vec<NamedRow>,
}

#[derive(Serialize)]
struct NamedRow {
    document: NamedRecord,
}

#[derive(Serialize)]
struct NamedRecord {
    _id: String,
    name: String,
}

#[derive(Serialize)]
struct Place {
    library: String,
    user: String,
}

impl Libraries {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        let books = start.documents("documents").unique("place").lookup_newest("user");
        Ok(Self {
            libraries: start.documents("libraries").unique("user").open().await?,
            books: books.open().await?,
            contents: Contents::open(&start).await?,
        })
    }

    async fn create_library(&self, call: Call<OfUser>) -> Result<OfLibrary, Stop> {
        let (OfUser { user }, call) = call.split();
        let library = call.new_id("library");
        let value = Library { user };
        match self.libraries.insert(call.permit().await?, &library, &value).await? {
            Inserted::Done => Ok(OfLibrary { library }),
            Inserted::Taken(_) => {
                Err(refused(format!("User {} already has a library.", value.user)))
            }
        }
    }

    /// Reads the library again after it has stored the document. [`Self::delete_all`] removes the
    /// library, then lists documents. If both run concurrently, at least one of them sees the
    /// other's write and removes the document.
    async fn create_document(&self, call: Call<NewDocument>) -> Result<OfDocument, Stop> {
        let (NewDocument { name, mut epub_content, library }, call) = call.split();
        let document = call.new_id("document");
        let Some(of) = self.libraries.get(&library).await? else {
            return self.abandon(&call, &document, &library).await;
        };
        check_name(&name)?;
        if epub_content.is_empty() {
            return Err(refused("The document is empty."));
        }
        let (user, place) = (of.value.user, place(&library, &name));
        let content = Fingerprint::of(&mut epub_content).await?;
        let book = Book { library, user, name, place, content, parts: None };
        match self.books.insert(call.permit().await?, &document, &book).await? {
            Inserted::Done => {}
            Inserted::Taken(_) => return Err(name_taken(&book.name, &book.library)),
        }
        self.fill(&call, document, &book, epub_content).await
    }

    /// Stores the content of a document whose record is stored, and makes it visible.
    async fn fill(
        &self,
        call: &Call<()>,
        document: String,
        book: &Book,
        content: String,
    ) -> Result<OfDocument, Stop> {
        let parts = self.contents.store(call, &document, &book.user, content).await?;
        let visible = Change::set("parts", parts);
        let stored = self.books.update(call.permit().await?, &document, visible).await?;
        if stored != Changed::Done || self.libraries.get(&book.library).await?.is_none() {
            return self.abandon(call, &document, &book.library).await;
        }
        Ok(OfDocument { document })
    }

    /// Removes what is stored of a document whose library was removed: its record and its content.
    /// Returns the refusal.
    async fn abandon(
        &self,
        call: &Call<()>,
        document: &str,
        library: &str,
    ) -> Result<OfDocument, Stop> {
        let _deleted = self.books.delete(call.permit().await?, document).await?;
        self.contents.remove(call, document).await?;
        Err(refused(format!("Library {library} does not exist.")))
    }

    async fn rename_document(&self, call: Call<Rename>) -> Result<OfDocument, Stop> {
        let (Rename { user, new_name, document }, call) = call.split();
        let book = match self.books.target(&call, &document).await? {
            Target::Done => return Ok(OfDocument { document }),
            Target::Live(book) if book.value.parts.is_some() => book.value,
            Target::Live(_) | Target::NotThere => return Err(no_document(&document)),
        };
        self.check_user(&user, &document, &book).await?;
        check_name(&new_name)?;
        let change = Change::set("name", &new_name);
        let change = change.and_set("place", place(&book.library, &new_name));
        match self.books.update(call.permit().await?, &document, change).await? {
            Changed::Done => Ok(OfDocument { document }),
            Changed::NotThere => Err(no_document(&document)),
            Changed::Taken(_) => Err(name_taken(&new_name, &book.library)),
        }
    }

    async fn check_user(&self, user: &str, document: &str, book: &Book) -> Result<(), Stop> {
        if self.libraries.find("user", user).await?.is_none() {
            return Err(refused(format!("User {user} does not have a library.")));
        }
        if book.user != user {
            let why = format!("Document {document} is not in user {user}'s library.");
            return Err(refused(why));
        }
        Ok(())
    }

    async fn require_document(&self, call: Call<UserDocument>) -> Result<OfDocument, Stop> {
        let (UserDocument { user, document }, _) = call.split();
        match self.visible(&document).await? {
            Some(book) => self.check_user(&user, &document, &book.value).await?,
            None => return Err(no_document(&document)),
        }
        Ok(OfDocument { document })
    }

    async fn remove_document(&self, call: Call<LibraryDocument>) -> Result<(), Stop> {
        let (LibraryDocument { library, document }, call) = call.split();
        match self.books.target(&call, &document).await? {
            Target::Done => {}
            Target::Live(book) if book.value.library == library => {
                let _deleted = self.books.delete(call.permit().await?, &document).await?;
            }
            Target::Live(_) | Target::NotThere => {
                let why = format!("Document {document} is not in library {library}.");
                return Err(refused(why));
            }
        }
        self.contents.remove(&call, &document).await
    }

    async fn delete_all(&self, call: Call<OfUser>) -> Result<(), Stop> {
        let (OfUser { user }, call) = call.split();
        if let Some(library) = self.libraries.find("user", &user).await? {
            let _deleted = self.libraries.delete(call.permit().await?, &library.id).await?;
        }
        let books = Page::of("user", &user);
        self.books.for_each(&call, &books, &Change::deletion()).await?;
        self.contents.remove_all(&call, &user).await
    }

    async fn get_library_by_user(&self, query: Query<OfUser>) -> Result<Option<LibraryRow>, Stop> {
        let user = query.input.user;
        let Some(library) = self.libraries.find("user", &user).await? else {
            return Ok(None);
        };
        let documents = self.books_of(&user).await?.into_iter().map(|book| book.id).collect();
        Ok(Some(LibraryRow { library: LibraryRecord { _id: library.id, user, documents } }))
    }

    async fn get_documents_in_library(
        &self,
        query: Query<OfLibrary>,
    ) -> Result<Option<Listed>, Stop> {
        let Some(library) = self.libraries.get(&query.input.library).await? else {
            return Ok(None);
        };
        let mut documents = Vec::new();
        for book in self.books_of(&library.value.user).await? {
            documents.extend(self.row(&query, book).await?);
        }
        Ok(Some(Listed { documents }))
    }

    async fn get_document_names(
        &self,
        query: Query<OfLibrary>,
    ) -> Result<Option<NamedDocuments>, Stop> {
        let Some(library) = self.libraries.get(&query.input.library).await? else {
            return Ok(None);
        };
        let books = self.books_of(&library.value.user).await?.into_iter();
        let named = |Found { id, value: Book { name, .. }, .. }: Found<Book>| NamedRow {
            document: NamedRecord { _id: id, name },
        };
        Ok(Some(NamedDocuments { documents: books.map(named).collect() }))
    }

    async fn get_document_details(
        &self,
        query: Query<OfDocument>,
    ) -> Result<Option<DocumentRow>, Stop> {
        match self.visible(&query.input.document).await? {
            Some(book) => self.row(&query, book).await,
            None => Ok(None),
        }
    }

    async fn get_owner(&self, query: Query<OfLibrary>) -> Result<Option<OfUser>, Stop> {
        let library = self.libraries.get(&query.input.library).await?;
        Ok(library.map(|library| OfUser { user: library.value.user }))
    }

    async fn get_place(&self, query: Query<OfDocument>) -> Result<Option<Place>, Stop> {
        let book = self.visible(&query.input.document).await?;
        Ok(book.map(|book| Place { library: book.value.library, user: book.value.user }))
    }

    async fn get_document_by_name(&self, query: Query<Named>) -> Result<Option<OfDocument>, Stop> {
        let Named { library, name } = &query.input;
        let book = self.books.find("place", &place(library, name)).await?;
        Ok(book.map(|book| OfDocument { document: book.id }))
    }

    /// A document whose content is stored.
    async fn visible(&self, document: &str) -> Result<Option<Found<Book>>, Stop> {
        Ok(self.books.get(document).await?.filter(|book| book.value.parts.is_some()))
    }

    /// The visible documents of a user, oldest first. A page has no such order, so the list of the
    /// newest first is reversed.
    async fn books_of(&self, user: &str) -> Result<Vec<Found<Book>>, Stop> {
        let mut books = self.books.page(Page::of("user", user).newest_first()).await?;
        books.retain(|book| book.value.parts.is_some());
        books.reverse();
        Ok(books)
    }

    /// `None` if the document was removed while it was read. Rows are made one after the other, so
    /// that only one content is in memory.
    async fn row<I>(
        &self,
        query: &Query<I>,
        book: Found<Book>,
    ) -> Result<Option<DocumentRow>, Stop> {
        let Found { id, value: Book { name, content, parts, .. }, .. } = book;
        let content = query.large(content.as_ref(), self.contents.read(&id, parts)).await?;
        Ok(content.map(|epub_content| DocumentRow {
            document: DocumentRecord { id, name, epub_content },
        }))
    }
}

/// Ids of libraries have no slash.
fn place(library: &str, name: &str) -> String {
    format!("{library}/{name}")
}

fn check_name(name: &str) -> Result<(), Stop> {
    if name.trim().is_empty() {
        return Err(refused("The name is empty."));
    }
    Ok(())
}

fn no_document(document: &str) -> Stop {
    refused(format!("Document {document} does not exist."))
}

fn name_taken(name: &str, library: &str) -> Stop {
    refused(format!("Document with name '{name}' already exists in library {library}."))
}

#[cfg(test)]
mod tests;
