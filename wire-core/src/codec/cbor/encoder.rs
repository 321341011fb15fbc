//! serde's values as CBOR items.
//!
//! Invariant: lengths are definite wherever serde knows them, which it does for every derived type.

use cbor4ii::core::enc::Encode;
use cbor4ii::core::types;
use cbor4ii::core::utils::BufWriter;
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::CborError;
use crate::codec::OUTPUT_BYTES_FIRST;
use crate::codec::timestamp::TIMESTAMP;

/// Tag 1: an epoch time; with AWS, in milliseconds.
const EPOCH_TIME: u64 = 1;

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
    let mut encoder = Encoder(BufWriter::new(Vec::with_capacity(OUTPUT_BYTES_FIRST)));
    value.serialize(&mut encoder)?;
    Ok(encoder.0.into_inner())
}

struct Encoder(BufWriter);

impl Encoder {
    fn item(&mut self, item: impl Encode) -> Result<(), CborError> {
        Ok(item.encode(&mut self.0)?)
    }

    /// The head of a map of one entry and its key: how serde names a variant with content.
    fn variant(&mut self, name: &str) -> Result<(), CborError> {
        types::Map::bounded(1, &mut self.0)?;
        self.item(name)
    }
}

/// An array or a map being written.
struct Open<'a> {
    encoder: &'a mut Encoder,
    /// Whether a break must end it.
    indefinite: bool,
}

impl<'a> Open<'a> {
    fn array(encoder: &'a mut Encoder, length: Option<usize>) -> Result<Self, CborError> {
        match length {
            Some(length) => types::Array::bounded(length, &mut encoder.0)?,
            None => types::Array::unbounded(&mut encoder.0)?,
        }
        Ok(Self { encoder, indefinite: length.is_none() })
    }

    fn map(encoder: &'a mut Encoder, length: Option<usize>) -> Result<Self, CborError> {
        match length {
            Some(length) => types::Map::bounded(length, &mut encoder.0)?,
            None => types::Map::unbounded(&mut encoder.0)?,
        }
        Ok(Self { encoder, indefinite: length.is_none() })
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CborError> {
        value.serialize(&mut *self.encoder)
    }

    fn close(self) -> Result<(), CborError> {
        if self.indefinite {
            // A break is the same byte for arrays and maps.
            types::Array::end(&mut self.encoder.0)?;
        }
        Ok(())
    }
}

macro_rules! items {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<(), CborError> { self.item(value) })*
    };
}

impl<'a> Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = CborError;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Open<'a>;
    type SerializeTupleVariant = Open<'a>;
    type SerializeMap = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Open<'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    items! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_u8: u8,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32, serialize_f64: f64, serialize_str: &str
    }

    fn serialize_char(self, value: char) -> Result<(), CborError> {
        self.item(&*value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), CborError> {
        self.item(types::Bytes(value))
    }

    fn serialize_none(self) -> Result<(), CborError> {
        self.item(types::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CborError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), CborError> {
        self.item(types::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), CborError> {
        self.item(types::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), CborError> {
        self.item(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), CborError> {
        if name == TIMESTAMP {
            self.item(types::Tag(EPOCH_TIME, types::Nothing))?;
        }
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), CborError> {
        self.variant(variant)?;
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Open<'a>, CborError> {
        Open::array(self, length)
    }

    fn serialize_tuple(self, length: usize) -> Result<Open<'a>, CborError> {
        Open::array(self, Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Open<'a>, CborError> {
        Open::array(self, Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Open<'a>, CborError> {
        self.variant(variant)?;
        Open::array(self, Some(length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Open<'a>, CborError> {
        Open::map(self, length)
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Open<'a>, CborError> {
        Open::map(self, Some(length))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Open<'a>, CborError> {
        self.variant(variant)?;
        Open::map(self, Some(length))
    }
}

macro_rules! elements {
    ($($trait:ident: $method:ident),*) => {
        $(impl $trait for Open<'_> {
            type Ok = ();
            type Error = CborError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CborError> {
                self.value(value)
            }

            fn end(self) -> Result<(), CborError> {
                self.close()
            }
        })*
    };
}

elements! {
    SerializeSeq: serialize_element, SerializeTuple: serialize_element, SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
}

impl SerializeMap for Open<'_> {
    type Ok = ();
    type Error = CborError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CborError> {
        self.value(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CborError> {
        self.value(value)
    }

    fn end(self) -> Result<(), CborError> {
        self.close()
    }
}

macro_rules! fields {
    ($($trait:ident),*) => {
        $(impl $trait for Open<'_> {
            type Ok = ();
            type Error = CborError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), CborError> {
                self.encoder.item(name)?;
                self.value(value)
            }

            fn end(self) -> Result<(), CborError> {
                self.close()
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);
