//! Payloads into columns.
//!
//! Invariant: a record that is not what its format says leaves no trace in any column, and every other one is a row, in
//! order.

use std::sync::Arc;

use arrow_array::{Array, BinaryArray, RecordBatch};
use arrow_avro::errors::AvroError;
use arrow_avro::reader::{Decoder as AvroDecoder, ReaderBuilder};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use table_core::csv::CsvRows;
use table_core::{Misfit, Origin, RowDecoder};

use super::format::{AvroWriter, Kind, RecordFormat, Undecodable};
use crate::error::{Error, Result};

/// Records that Avro decodes at once at most.
const AVRO_ROWS: usize = 8192;

/// Decodes payloads to some of a format's columns.
#[derive(Debug)]
pub(super) struct Decoder {
    rows: Rows,
    /// What is bad, before it is known where.
    undecodable: Undecodable,
}

#[derive(Debug)]
enum Rows {
    Json(RowDecoder),
    Csv(CsvRows),
    Avro { rows: Box<AvroRows>, columns: Vec<usize>, schema: SchemaRef },
}

/// What became of payloads.
#[derive(Debug)]
pub(super) struct Decoded {
    /// A row for each that was decoded.
    pub(super) batch: RecordBatch,
    /// The places of those that were not, in order, and why.
    pub(super) bad: Vec<(usize, String)>,
}

impl Decoder {
    /// A decoder to the columns at these places of the format's schema.
    pub(super) fn new(format: &RecordFormat, columns: &[usize], undecodable: Undecodable) -> Result<Self> {
        let schema = Arc::new(format.schema().project(columns).map_err(unmade)?);
        let misfit = match undecodable {
            Undecodable::Fail => Misfit::RejectRow,
            Undecodable::Null => Misfit::Null,
        };
        let made = |error: table_core::Error| Error::new(error.kind(), error.message().to_owned());
        let rows = match format.kind() {
            Kind::Json => Rows::Json(RowDecoder::new(schema).map_err(made)?.with_misfit(misfit)),
            Kind::Csv(settings) => {
                let rows = CsvRows::new(schema, settings.clone().with_misfit(misfit)).map_err(made)?;
                Rows::Csv(rows.with_fields(columns, format.schema().fields().len()))
            }
            Kind::Avro(writer) => {
                let rows = Box::new(AvroRows::new(Arc::clone(writer)).map_err(|error| unmade(error.into()))?);
                Rows::Avro { rows, columns: columns.to_vec(), schema }
            }
        };
        Ok(Self { rows, undecodable })
    }

    /// Decodes these payloads; where the first bad one decides, those behind it may be left out.
    pub(super) fn decode(&mut self, payloads: &BinaryArray) -> Result<Decoded> {
        let mut bad = Vec::new();
        let origin = Origin::default();
        let batch = match &mut self.rows {
            Rows::Avro { rows, columns, schema } => {
                let (batch, found) = rows.decode(payloads).map_err(unmade)?;
                bad = found;
                let arrays = columns.iter().filter_map(|column| batch.columns().get(*column).cloned()).collect();
                let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(payloads.len() - bad.len()));
                RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map_err(unmade)?
            }
            rows => {
                for (place, payload) in payloads.iter().enumerate() {
                    let payload = payload.unwrap_or_default();
                    let taken = match rows {
                        Rows::Json(rows) => rows.push_json(payload, origin),
                        Rows::Csv(rows) => rows.push(payload, origin),
                        Rows::Avro { .. } => true,
                    };
                    if !taken {
                        bad.push((place, String::new()));
                        if self.undecodable == Undecodable::Fail {
                            break;
                        }
                    }
                }
                let decoded = match rows {
                    Rows::Json(rows) => rows.finish(),
                    Rows::Csv(rows) => rows.finish(),
                    Rows::Avro { .. } => return Err(Error::invalid("Avro is decoded by itself")),
                };
                let decoded = decoded.map_err(|error| Error::new(error.kind(), error.message().to_owned()))?;
                for ((_, why), reject) in bad.iter_mut().zip(&decoded.rejects) {
                    *why = match &reject.column {
                        Some(column) => format!("column \"{column}\": {}", reject.reason),
                        None => reject.reason.clone(),
                    };
                }
                decoded.batch
            }
        };
        Ok(Decoded { batch, bad })
    }
}

fn unmade(error: ArrowError) -> Error {
    Error::new(durable_core::ErrorKind::Internal, "payloads were not decoded").with_source(error)
}

/// Decodes Avro data of one writer's schema.
#[derive(Debug)]
pub(super) struct AvroRows {
    writer: Arc<AvroWriter>,
    decoder: AvroDecoder,
    /// Decodes one record alone; what it refuses never reaches the other.
    probe: AvroDecoder,
    framed: Vec<u8>,
}

impl AvroRows {
    pub(super) fn new(writer: Arc<AvroWriter>) -> Result<Self, AvroError> {
        let decoder = decoder(&writer, AVRO_ROWS)?;
        let probe = self::decoder(&writer, 1)?;
        Ok(Self { writer, decoder, probe, framed: Vec::new() })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.decoder.schema()
    }

    /// The rows of those that are data of the schema, and the places of the others with why.
    fn decode(&mut self, payloads: &BinaryArray) -> Result<(RecordBatch, Vec<(usize, String)>), ArrowError> {
        let mut batches = Vec::new();
        let mut bad = Vec::new();
        let mut start = 0;
        while start < payloads.len() {
            let count = AVRO_ROWS.min(payloads.len() - start);
            let part = payloads.slice(start, count);
            // A bad one is rare, so all are taken for good at first.
            if let Err(error) = self.decode_good(&part, |_| true) {
                tracing::debug!(%error, "an Avro record was not decoded; each is looked at alone");
                self.decoder = decoder(&self.writer, AVRO_ROWS)?;
                let found = self.probe_each(&part)?;
                self.decode_good(&part, |place| found.binary_search_by_key(&place, |(at, _)| *at).is_err())?;
                bad.extend(found.into_iter().map(|(place, why)| (start + place, why)));
            }
            batches.extend(self.decoder.flush()?);
            start += count;
        }
        let schema = self.decoder.schema();
        match batches.as_slice() {
            [] => Ok((RecordBatch::new_empty(schema), bad)),
            [one] => Ok((one.clone(), bad)),
            several => Ok((datafusion::arrow::compute::concat_batches(&schema, several)?, bad)),
        }
    }

    fn decode_good(&mut self, payloads: &BinaryArray, is_good: impl Fn(usize) -> bool) -> Result<(), AvroError> {
        for (place, payload) in payloads.iter().enumerate().filter(|(place, _)| is_good(*place)) {
            let _ = place;
            decode_one(&mut self.decoder, &self.writer, &mut self.framed, payload.unwrap_or_default())?;
        }
        Ok(())
    }

    fn probe_each(&mut self, payloads: &BinaryArray) -> Result<Vec<(usize, String)>, AvroError> {
        let mut bad = Vec::new();
        for (place, payload) in payloads.iter().enumerate() {
            let decoded = decode_one(&mut self.probe, &self.writer, &mut self.framed, payload.unwrap_or_default())
                .and_then(|()| self.probe.flush());
            if let Err(error) = decoded {
                bad.push((place, error.to_string()));
                self.probe = decoder(&self.writer, 1)?;
            }
        }
        Ok(bad)
    }
}

/// One datum, which must be all of the payload.
fn decode_one(
    decoder: &mut AvroDecoder,
    writer: &AvroWriter,
    framed: &mut Vec<u8>,
    payload: &[u8],
) -> Result<(), AvroError> {
    let framed = if payload.starts_with(&writer.header) {
        payload
    } else {
        framed.clear();
        framed.extend_from_slice(&writer.header);
        framed.extend_from_slice(payload);
        framed
    };
    let capacity = decoder.capacity();
    let used = decoder.decode(framed)?;
    match framed.len() - used {
        0 if decoder.capacity() + 1 == capacity => Ok(()),
        0 => Err(AvroError::ParseError("the datum is cut short".to_owned())),
        left => Err(AvroError::ParseError(format!("{left} bytes are left behind the datum, or it is cut short"))),
    }
}

fn decoder(writer: &AvroWriter, rows: usize) -> Result<AvroDecoder, ArrowError> {
    ReaderBuilder::new()
        .with_batch_size(rows)
        .with_writer_schema_store(writer.store.clone())
        .with_active_fingerprint(writer.fingerprint)
        .build_decoder()
}

/// The schema with every field nullable, as rows of NULLs need it.
pub(super) fn nullable(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>())
}
