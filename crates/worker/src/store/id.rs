//! Ids of documents.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, RawBsonRef};

/// A type of document ids: text or bytes.
pub trait Id: Sized + Send + Sync + 'static {
    /// A borrowed id.
    type Ref: ?Sized + Sync;

    /// The stored form of the id.
    fn key(id: &Self::Ref) -> Key;

    /// Borrows the id.
    fn borrow(&self) -> &Self::Ref;

    /// Reads a stored id; `None` if it is of another type.
    fn read(key: &Key) -> Option<Self>;
}

/// A stored id, or the value of a field that documents are looked up by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A string.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Key {
    /// Reads a key from a stored value.
    pub(crate) fn of(value: RawBsonRef<'_>) -> Option<Self> {
        match value {
            RawBsonRef::String(text) => Some(Self::Text(text.to_owned())),
            RawBsonRef::Binary(binary) => Some(Self::Bytes(binary.bytes.to_vec())),
            _ => None,
        }
    }

    /// The size of the value.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// The stored form of the value.
    pub(crate) fn bson(&self) -> Bson {
        match self {
            Self::Text(text) => Bson::String(text.clone()),
            Self::Bytes(bytes) => {
                Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.clone() })
            }
        }
    }
}

impl Id for String {
    type Ref = str;

    fn key(id: &str) -> Key {
        Key::Text(id.to_owned())
    }

    fn borrow(&self) -> &str {
        self
    }

    fn read(key: &Key) -> Option<Self> {
        match key {
            Key::Text(text) => Some(text.clone()),
            Key::Bytes(_) => None,
        }
    }
}

impl<const N: usize> Id for [u8; N] {
    type Ref = Self;

    fn key(id: &Self) -> Key {
        Key::Bytes(id.to_vec())
    }

    fn borrow(&self) -> &Self {
        self
    }

    fn read(key: &Key) -> Option<Self> {
        match key {
            Key::Bytes(bytes) => bytes.as_slice().try_into().ok(),
            Key::Text(_) => None,
        }
    }
}
