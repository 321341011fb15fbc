//! CBOR items as serde sees them.
//!
//! Invariant: borrowed where the item is in one piece; no allocation follows a declared length alone.

use std::borrow::Cow;

use cbor4ii::core::dec::{Decode, IgnoredAny, Read, Reference, if_major, is_break};
use cbor4ii::core::{error::Never, major, marker, types};
use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer, StringDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use super::{CborError, DEPTH_MAX};

/// How many elements a declared length alone may reserve room for.
const ELEMENTS_FIRST: usize = 512;

/// Reads one value that is the whole of `body`.
pub(super) fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, CborError> {
    let mut decoder = Decoder::new(body);
    let value = T::deserialize(&mut decoder)?;
    match decoder.input.bytes {
        [] => Ok(value),
        rest => Err(CborError::new(format!("{} bytes follow the CBOR item", rest.len()))),
    }
}

/// What is left of the input, and how much deeper it may nest.
struct Input<'de> {
    bytes: &'de [u8],
    depth_left: usize,
}

impl<'de> Read<'de> for Input<'de> {
    type Error = Never;

    #[inline]
    fn fill<'short>(&'short mut self, want: usize) -> Result<Reference<'de, 'short>, Never> {
        Ok(Reference::Long(self.bytes.get(..want).unwrap_or(self.bytes)))
    }

    #[inline]
    fn advance(&mut self, n: usize) {
        self.bytes = self.bytes.get(n..).unwrap_or_default();
    }

    #[inline]
    fn step_in(&mut self) -> bool {
        self.depth_left.checked_sub(1).map(|left| self.depth_left = left).is_some()
    }

    #[inline]
    fn step_out(&mut self) {
        self.depth_left += 1;
    }
}

/// A serde deserializer over one CBOR item.
pub(super) struct Decoder<'de> {
    input: Input<'de>,
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { input: Input { bytes, depth_left: DEPTH_MAX } }
    }

    fn item<T: Decode<'de>>(&mut self) -> Result<T, CborError> {
        Ok(T::decode(&mut self.input)?)
    }

    fn text(&mut self) -> Result<Cow<'de, str>, CborError> {
        self.item()
    }

    /// The next item's first byte, tags skipped: none of them changes how a value is read.
    #[inline]
    fn peek(&mut self) -> Result<u8, CborError> {
        loop {
            let first = *self.input.bytes.first().ok_or_else(|| CborError::new("the CBOR ends too early"))?;
            if if_major(first) != major::TAG {
                return Ok(first);
            }
            types::Tag::tag(&mut self.input)?;
        }
    }

    /// Runs `read` one level deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, CborError>) -> Result<T, CborError> {
        if !self.input.step_in() {
            return Err(CborError::new(format!("the CBOR is nested deeper than {DEPTH_MAX} levels")));
        }
        let result = read(self);
        self.input.step_out();
        result
    }

    fn array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, CborError> {
        self.nested(|decoder| {
            let left = types::Array::len(&mut decoder.input)?;
            let mut elements = Elements { decoder, left, ended: false };
            let value = visitor.visit_seq(&mut elements)?;
            elements.end()?;
            Ok(value)
        })
    }

    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, CborError> {
        self.nested(|decoder| {
            let left = types::Map::len(&mut decoder.input)?;
            let mut entries = Elements { decoder, left, ended: false };
            let value = visitor.visit_map(&mut entries)?;
            entries.end()?;
            Ok(value)
        })
    }

    fn simple<V: Visitor<'de>>(&mut self, first: u8, visitor: V) -> Result<V::Value, CborError> {
        match first {
            marker::FALSE | marker::TRUE => visitor.visit_bool(self.item()?),
            marker::NULL | marker::UNDEFINED => {
                self.input.advance(1);
                visitor.visit_unit()
            }
            marker::F32 => visitor.visit_f64(self.item::<f32>()?.into()),
            marker::F64 => visitor.visit_f64(self.item()?),
            marker::F16 => Err(CborError::new("a CBOR float of 16 bits is not read: no AWS client writes one")),
            _ => Err(CborError::new("the CBOR is malformed")),
        }
    }
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = CborError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        let first = self.peek()?;
        match if_major(first) {
            major::UNSIGNED => visitor.visit_u64(self.item()?),
            major::NEGATIVE => visitor.visit_i64(self.item()?),
            major::BYTES => match self.item::<types::Bytes<Cow<'de, [u8]>>>()?.0 {
                Cow::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
                Cow::Owned(bytes) => visitor.visit_byte_buf(bytes),
            },
            major::STRING => match self.text()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            major::ARRAY => self.array(visitor),
            major::MAP => self.map(visitor),
            _ => self.simple(first, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        match self.peek()? {
            marker::NULL | marker::UNDEFINED => {
                self.input.advance(1);
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, CborError> {
        visitor.visit_newtype_struct(self)
    }

    /// Only from a map: serde would take an array as well.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CborError> {
        match if_major(self.peek()?) {
            major::ARRAY => Err(CborError::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CborError> {
        match if_major(self.peek()?) {
            major::STRING => match self.text()? {
                Cow::Borrowed(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
                Cow::Owned(text) => visitor.visit_enum(StringDeserializer::new(text)),
            },
            major::MAP => self.nested(|decoder| {
                let left = types::Map::len(&mut decoder.input)?;
                let mut entries = Elements { decoder, left, ended: false };
                let value = visitor.visit_enum(MapAccessDeserializer::new(&mut entries))?;
                entries.end()?;
                Ok(value)
            }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        self.item::<IgnoredAny>()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

/// The elements of an array, or the entries of a map, that are still to come.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    /// `None`: until a break.
    left: Option<usize>,
    ended: bool,
}

impl Elements<'_, '_> {
    /// Whether there is another one.
    fn another(&mut self) -> Result<bool, CborError> {
        let another = match &mut self.left {
            Some(left) => left.checked_sub(1).map(|fewer| *left = fewer).is_some(),
            None => !self.ended && !is_break(&mut self.decoder.input)?,
        };
        self.ended = !another;
        Ok(another)
    }

    /// Refuses elements that the visitor did not ask for.
    fn end(&mut self) -> Result<(), CborError> {
        match self.ended || !self.another()? {
            true => Ok(()),
            false => Err(CborError::new("there are more elements than expected")),
        }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = CborError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, CborError> {
        self.another()?.then(|| seed.deserialize(&mut *self.decoder)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        self.left.map(|left| left.min(ELEMENTS_FIRST).min(self.decoder.input.bytes.len()))
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = CborError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, CborError> {
        self.another()?.then(|| seed.deserialize(&mut *self.decoder)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, CborError> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        SeqAccess::size_hint(self)
    }
}
