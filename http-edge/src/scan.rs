//! Scans a JSON body while it arrives: large strings are stored beside the log, and the rest is
//! returned as a small JSON text with their references (ADR 38).

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use concert_wire::large::blob::plain_prefix;
use concert_wire::large::{INLINE_MAX_BYTES, Reference};
use concert_wire::nested;
use concert_wire::routes::{Route, RouteKey, ValueType as Type};
use struson::reader::{JsonReader as _, JsonStreamReader, ReaderError, ValueType};
use struson::writer::{JsonStreamWriter, JsonWriter as _};

use crate::error::{EdgeError, Misfit};

/// Size of the parts in which a large string is stored, in bytes.
const PART_BYTES: usize = 64 * 1024;

/// Stores large strings, one after the other.
pub(crate) trait Store {
    /// Appends bytes to the current string, or starts one.
    fn push(&mut self, bytes: &[u8]) -> Result<(), EdgeError>;

    /// Ends the current string.
    fn finish(&mut self) -> Result<Reference, EdgeError>;
}

/// Limits of a body, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanLimits {
    /// Maximum size of the body without large strings and unknown keys.
    pub(crate) rest: usize,
    /// Maximum size of a large string.
    pub(crate) large: u64,
}

/// Reads a body. Values of keys that the route does not name become `null` and are not stored. With
/// `None`, all keys are stored.
///
/// # Errors
/// The body is malformed or exceeds a limit, or a value cannot be stored.
pub(crate) fn scan(
    body: impl BufRead,
    route: Option<&Route>,
    limits: ScanLimits,
    store: &mut impl Store,
) -> Result<Vec<u8>, EdgeError> {
    let meter = Rc::new(Meter { left: Cell::new(limits.rest + 1), ..Meter::default() });
    let reader = JsonStreamReader::new(Metered { body, meter: meter.clone() });
    let mut text = Vec::new();
    let writer = JsonStreamWriter::new(&mut text);
    let scan = Scan { reader, writer, store, limits, meter: &meter };
    match scan.body(route) {
        Ok(()) => {}
        Err(_) if meter.left.get() == 0 => return Err(EdgeError::TooLarge(limits.rest)),
        Err(Stop::Malformed(why)) => {
            let note = match meter.taken.get() {
                0 => String::new(),
                taken => format!(", not counting {taken} bytes of large strings"),
            };
            return Err(EdgeError::BadRequest(format!("malformed JSON: {why}{note}")));
        }
        Err(Stop::Refused(error)) => return Err(error),
    }
    Ok(text)
}

/// A key of a route with all keys.
const ANY: RouteKey = RouteKey { required: false, secret: false, kind: Type::Any };

/// Where in the body the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Rest,
    /// In the value of an unknown key. Its bytes are not counted.
    Skipped,
    /// In a large string. Its bytes are not counted.
    Large,
}

/// What the scanner and the input of its reader share.
#[derive(Default)]
struct Meter {
    /// Bytes that the reader may still get.
    left: Cell<usize>,
    place: Cell<At>,
    /// In a large string: the reader is between two characters.
    may_take: Cell<bool>,
    /// Text that was taken out of a large string.
    plain: RefCell<Vec<u8>>,
    /// Size of all text that was taken, in bytes.
    taken: Cell<usize>,
}

/// The input of the reader: counts the bytes of a body, and takes long texts out of large strings,
/// because the reader needs 10 ns for each byte.
struct Metered<R> {
    body: R,
    meter: Rc<Meter>,
}

impl<R: BufRead> Metered<R> {
    /// Takes text out of the body, up to a character that needs the reader.
    fn take_plain(&mut self) -> io::Result<()> {
        let mut plain = self.meter.plain.borrow_mut();
        while plain.len() < PART_BYTES {
            let next = self.body.fill_buf()?;
            let text = plain_prefix(next.get(..PART_BYTES).unwrap_or(next));
            if text.is_empty() {
                break;
            }
            plain.extend_from_slice(text);
            let length = text.len();
            self.body.consume(length);
            self.meter.taken.set(self.meter.taken.get() + length);
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let place = self.meter.place.get();
        if place == At::Large && self.meter.may_take.replace(false) {
            self.take_plain()?;
        }
        // One byte at a time, so that the reader asks again before the next character.
        let max = if place == At::Large { 1 } else { u64::MAX };
        let read = self.body.by_ref().take(max).read(buffer)?;
        if place == At::Rest {
            let left = self.meter.left.get().saturating_sub(read);
            self.meter.left.set(left);
            if left == 0 {
                return Err(io::Error::other("the limit is reached"));
            }
        }
        Ok(read)
    }
}

enum Stop {
    Malformed(String),
    Refused(EdgeError),
}

impl From<ReaderError> for Stop {
    fn from(error: ReaderError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<EdgeError> for Stop {
    fn from(error: EdgeError) -> Self {
        Self::Refused(error)
    }
}

struct Scan<'a, R: BufRead, S> {
    reader: JsonStreamReader<Metered<R>>,
    writer: JsonStreamWriter<&'a mut Vec<u8>>,
    store: &'a mut S,
    limits: ScanLimits,
    meter: &'a Meter,
}

impl<R: BufRead, S: Store> Scan<'_, R, S> {
    fn body(mut self, route: Option<&Route>) -> Result<(), Stop> {
        if self.reader.peek()? != ValueType::Object {
            return Err(EdgeError::BadRequest("expected a JSON object".to_owned()).into());
        }
        self.members(route, None)?;
        self.reader.consume_trailing_whitespace()?;
        self.writer.finish_document()?;
        Ok(())
    }

    /// Copies the keys of the route in an object of the body; `None` is the body itself.
    fn members(&mut self, route: Option<&Route>, object: Option<&str>) -> Result<(), Stop> {
        self.reader.begin_object()?;
        self.writer.begin_object()?;
        while self.reader.has_next()? {
            let name = self.reader.next_name_owned()?;
            self.writer.name(&name)?;
            let Some(route) = route else {
                self.value(&name, &ANY)?;
                continue;
            };
            let name = match object {
                // A key with a dot is no path.
                _ if nested::is_path(&name) => None,
                None => Some(name),
                Some(object) => Some(format!("{object}{}{name}", nested::SEPARATOR)),
            };
            let is_object = self.reader.peek()? == ValueType::Object;
            let key = name.as_ref().and_then(|name| Some((name, route.keys.get(name)?)));
            match (key, name.as_ref()) {
                (Some((name, key)), _) => self.value(name, key)?,
                (None, Some(name)) if is_object && route.keys_in(name).next().is_some() => {
                    self.members(Some(route), Some(name))?;
                }
                (None, _) => {
                    // A name that occurs twice is still found.
                    self.writer.null_value()?;
                    self.meter.place.set(At::Skipped);
                    self.reader.skip_value()?;
                    self.meter.place.set(At::Rest);
                }
            }
        }
        self.reader.end_object()?;
        self.writer.end_object()?;
        Ok(())
    }

    /// Copies a value of a key of the body.
    fn value(&mut self, name: &str, key: &RouteKey) -> Result<(), Stop> {
        match self.reader.peek()? {
            ValueType::String => return self.string(name, key),
            ValueType::Number => {
                let number = self.reader.next_number_as_str()?;
                // The reader accepts no other numbers than the writer.
                let copied = self.writer.number_value_from_string(number);
                copied.map_err(|error| Stop::Malformed(error.to_string()))?;
            }
            ValueType::Boolean => self.writer.bool_value(self.reader.next_bool()?)?,
            ValueType::Null => {
                self.reader.next_null()?;
                self.writer.null_value()?;
            }
            ValueType::Array => {
                self.reader.begin_array()?;
                self.writer.begin_array()?;
                while self.reader.has_next()? {
                    self.value(name, key)?;
                }
                self.reader.end_array()?;
                self.writer.end_array()?;
            }
            ValueType::Object => {
                self.reader.begin_object()?;
                self.writer.begin_object()?;
                while self.reader.has_next()? {
                    self.writer.name(self.reader.next_name()?)?;
                    self.value(name, key)?;
                }
                self.reader.end_object()?;
                self.writer.end_object()?;
            }
        }
        Ok(())
    }

    fn string(&mut self, name: &str, key: &RouteKey) -> Result<(), Stop> {
        let Self { reader, writer, store, limits, meter } = self;
        let mut content = reader.next_string_reader()?;
        let mut text = Vec::new();
        content.by_ref().take(INLINE_MAX_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 <= INLINE_MAX_BYTES {
            drop(content);
            let text = str::from_utf8(&text).map_err(|error| Stop::Malformed(error.to_string()))?;
            if !key.secret && text.parse::<Reference>().is_ok() {
                return Err(EdgeError::from(Misfit::new(name, NO_REFERENCE)).into());
            }
            return Ok(writer.string_value(text)?);
        }
        if !accepts_large(&key.kind) {
            let problem = match key.secret {
                true => format!("must be a secret of at most {INLINE_MAX_BYTES} bytes"),
                false => format!("must be {}", key.kind.describe()),
            };
            return Err(EdgeError::from(Misfit::new(name, &problem)).into());
        }
        // The part of the string that was read does not count for the rest of the body.
        meter.left.set(meter.left.get() + text.len());
        meter.place.set(At::Large);
        let mut bytes = 0;
        while !text.is_empty() {
            bytes += text.len() as u64;
            if bytes > limits.large {
                return Err(EdgeError::LargeValue(name.to_owned(), limits.large).into());
            }
            store.push(&text)?;
            text.clear();
            while text.len() < PART_BYTES {
                meter.may_take.set(true);
                let mut byte = [0];
                let read = content.read(&mut byte)?;
                // What was taken comes before the byte.
                text.append(&mut meter.plain.borrow_mut());
                if read == 0 {
                    break;
                }
                text.extend(byte);
            }
        }
        drop(content);
        meter.place.set(At::Rest);
        Ok(writer.string_value(&store.finish()?.to_string())?)
    }
}

/// Returns whether a value of a type can contain a large value.
pub(crate) fn accepts_large(kind: &Type) -> bool {
    match kind {
        Type::Any | Type::String => true,
        // A character has at most four bytes.
        Type::BoundedString(max) => u64::from(*max) * 4 > INLINE_MAX_BYTES,
        Type::Nullable(of) | Type::Seq(of) | Type::Set(of) => accepts_large(of),
        Type::Record(fields) => fields.iter().any(|field| accepts_large(&field.kind)),
        _ => false,
    }
}

/// The problem of a text in the form of a reference.
pub(crate) const NO_REFERENCE: &str = "must not have the form of a reference to a large value";

#[cfg(test)]
mod tests;
