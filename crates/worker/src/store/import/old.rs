//! The database of the other system: MongoDB, or files in JSON.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Cursor, Database};

/// Reason why the database of another system cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OldDataError {
    /// The URI has no database.
    #[error("the URI names no database; append its name, as in mongodb://127.0.0.1:27017/NAME")]
    NoDatabase,
    /// The database cannot be read.
    #[error("cannot read the old database: {0}; check its URI and that the server runs")]
    Database(#[from] mongodb::error::Error),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Error,
    },
}

/// The database of another system.
#[derive(Debug, Clone)]
pub struct OldData(Form);

#[derive(Debug, Clone)]
enum Form {
    Database(Database),
    /// One file for each collection, named after it.
    Directory(PathBuf),
    /// The file of one collection, or an object with a list for each collection.
    File(PathBuf),
}

impl OldData {
    /// Opens a database by its `mongodb://` URI, a directory with a file for each collection, such
    /// as `Profile.users.json`, or one file. Files are in extended JSON, as `mongoexport` writes
    /// them.
    ///
    /// # Errors
    /// See [`OldDataError`].
    pub async fn open(from: &str) -> Result<Self, OldDataError> {
        if from.starts_with("mongodb://") || from.starts_with("mongodb+srv://") {
            let client = Client::with_options(ClientOptions::parse(from).await?)?;
            let database = client.default_database().ok_or(OldDataError::NoDatabase)?;
            database.run_command(doc! { "ping": 1 }).await?;
            return Ok(Self(Form::Database(database)));
        }
        let path = PathBuf::from(from);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(Self(Form::Directory(path))),
            Ok(_) => Ok(Self(Form::File(path))),
            Err(source) => Err(OldDataError::File { path, source }),
        }
    }

    /// The documents of a collection, in its order. A missing collection is empty. Boxed, as ADR 29
    /// says.
    pub(super) fn read<'a>(
        &'a self,
        collection: &'a str,
    ) -> BoxFuture<'a, Result<Reader, OldDataError>> {
        Box::pin(async move {
            let path = match &self.0 {
                Form::Database(database) => {
                    let found = database.collection(collection).find(doc! {}).await?;
                    return Ok(Reader::Cursor(Box::new(found)));
                }
                Form::Directory(dir) => dir.join(format!("{collection}.json")),
                Form::File(path) => path.clone(),
            };
            let read = match &self.0 {
                Form::File(path) if path.file_stem().is_none_or(|name| name != collection) => {
                    of_object(path, collection)
                }
                _ => values(&path),
            };
            match read {
                Ok(values) => Ok(Reader::File(path, values)),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Ok(Reader::File(path, Box::new(std::iter::empty())))
                }
                Err(source) => Err(OldDataError::File { path, source }),
            }
        })
    }
}

impl fmt::Display for OldData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Database(database) => write!(f, "the database {}", database.name()),
            Form::Directory(path) | Form::File(path) => write!(f, "{}", path.display()),
        }
    }
}

type Values = Box<dyn Iterator<Item = Result<Bson, Error>> + Send>;

/// The values of a file: those of a list, or one after the other.
fn values(path: &Path) -> Result<Values, Error> {
    let mut file = BufReader::new(File::open(path)?);
    let first =
        file.by_ref().bytes().find(|byte| !matches!(byte, Ok(b) if b.is_ascii_whitespace()));
    file.rewind()?;
    if matches!(first, Some(Ok(b'['))) {
        let list: Vec<Bson> = serde_json::from_reader(file)?;
        return Ok(Box::new(list.into_iter().map(Ok)));
    }
    let values = serde_json::Deserializer::from_reader(file).into_iter::<Bson>();
    Ok(Box::new(values.map(|value| Ok(value?))))
}

/// The list of a collection in a file with all collections.
fn of_object(path: &Path, collection: &str) -> Result<Values, Error> {
    let mut all: Document = serde_json::from_reader(BufReader::new(File::open(path)?))?;
    match all.remove(collection) {
        None => Ok(Box::new(std::iter::empty())),
        Some(Bson::Array(list)) => Ok(Box::new(list.into_iter().map(Ok))),
        Some(_) => {
            let why = format!("`{collection}` is not a list of documents");
            Err(Error::new(ErrorKind::InvalidData, why))
        }
    }
}

/// Reads the documents of a collection.
pub(super) enum Reader {
    Cursor(Box<Cursor<Document>>),
    File(PathBuf, Values),
}

impl Reader {
    pub(super) fn next(&mut self) -> BoxFuture<'_, Result<Option<Document>, OldDataError>> {
        Box::pin(async move {
            match self {
                Self::Cursor(cursor) => {
                    let more = cursor.advance().await?;
                    Ok(if more { Some(cursor.deserialize_current()?) } else { None })
                }
                Self::File(path, values) => {
                    let next = values.next().map(|value| match value? {
                        Bson::Document(document) => Ok(document),
                        _ => Err(Error::new(ErrorKind::InvalidData, "a document is not an object")),
                    });
                    let failed = |source| OldDataError::File { path: path.clone(), source };
                    next.transpose().map_err(failed)
                }
            }
        })
    }
}
