//! What payloads are: JSON, delimited text or Avro, of a given schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use arrow_schema::{Schema, SchemaRef};
use table_core::RowDecoder;
use table_core::csv::{CsvRows, CsvSettings};

use super::decode::AvroRows;
use crate::error::{Error, Result};

/// How a record's payload becomes columns.
#[derive(Clone, Debug)]
pub struct RecordFormat {
    kind: Kind,
    schema: SchemaRef,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Json,
    Csv(CsvSettings),
    Avro(Arc<AvroWriter>),
}

/// What Avro records were written with.
#[derive(Debug)]
pub(super) struct AvroWriter {
    pub(super) store: SchemaStore,
    pub(super) fingerprint: Fingerprint,
    /// What the single-object encoding puts before a datum.
    pub(super) header: [u8; 10],
}

/// What becomes of a record whose payload is not what the format says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undecodable {
    /// The query fails and names the record.
    #[default]
    Fail,
    /// Its decoded columns are NULL, or the one whose value is of another type; `data` has what was put.
    Null,
}

impl RecordFormat {
    /// Each record is one JSON object; names are matched without regard to case, fields that the schema does not have are
    /// left out, fields that the object does not have are NULL.
    ///
    /// # Errors
    /// `InvalidInput` if the schema has a type that text is not decoded to.
    pub fn json(schema: SchemaRef) -> Result<Self> {
        RowDecoder::new(Arc::clone(&schema)).map_err(|error| unusable(&error))?;
        Ok(Self { kind: Kind::Json, schema })
    }

    /// Each record is one row of delimited text, with or without a line's end; columns are found by their place.
    ///
    /// # Errors
    /// `InvalidInput` if the schema has a nested type or one that text is not decoded to, or if the settings say that
    /// there is a header, which a record has not.
    pub fn csv(schema: SchemaRef, settings: CsvSettings) -> Result<Self> {
        if settings.has_header() {
            return Err(Error::invalid("a record is one row without a header; give settings with_header(false)"));
        }
        CsvRows::new(Arc::clone(&schema), settings.clone()).map_err(|error| unusable(&error))?;
        Ok(Self { kind: Kind::Csv(settings), schema })
    }

    /// Each record is one Avro datum of this schema, bare or in Avro's single-object encoding. The table's columns are
    /// the record's fields.
    ///
    /// # Errors
    /// `InvalidInput` if the text is no Avro schema of a record, or has a type that has no Arrow counterpart.
    pub fn avro(schema: impl Into<String>) -> Result<Self> {
        let refused = |error: &dyn std::fmt::Display| Error::invalid(format!("this is no usable Avro schema: {error}"));
        let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Rabin);
        let fingerprint = store.register(AvroSchema::new(schema.into())).map_err(|error| refused(&error))?;
        let Fingerprint::Rabin(rabin) = fingerprint else {
            return Err(Error::invalid("this Avro schema has no CRC-64-AVRO fingerprint"));
        };
        let mut header = [0xC3, 0x01, 0, 0, 0, 0, 0, 0, 0, 0];
        header.iter_mut().skip(2).zip(rabin.to_le_bytes()).for_each(|(to, from)| *to = from);
        let writer = Arc::new(AvroWriter { store, fingerprint, header });
        let rows = AvroRows::new(Arc::clone(&writer)).map_err(|error| refused(&error))?;
        // Names and the like of the writer mean nothing to a table.
        let written = rows.schema();
        let fields = written.fields().iter().map(|field| field.as_ref().clone().with_metadata(HashMap::new()));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Self { kind: Kind::Avro(writer), schema })
    }

    /// The columns of the payload.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Json => "json",
            Kind::Csv(_) => "csv",
            Kind::Avro(_) => "avro",
        }
    }
}

fn unusable(error: &table_core::Error) -> Error {
    Error::new(error.kind(), format!("the payload's schema cannot be used: {}", error.message()))
}
