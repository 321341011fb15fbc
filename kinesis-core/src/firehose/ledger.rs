//! What a delivery stream commits with its positions: the objects it has promised, and what is done ahead of them.
//!
//! One commit of the consumer's positions and this state seals a buffer: from then on its object has a name and a set of
//! records, and will be created under that name with exactly those records, whatever crashes. So:
//!
//! - a record at or below its shard's position is in a sealed object, or was dropped by the transform;
//! - a record above it is in a sealed object if `ahead` has it, and not yet otherwise;
//! - a sealed object stays in `sealed` until it is in the store.
//!
//! The state is JSON; it is read by this version and all later ones (`format` says which wrote it).

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Schema, SchemaRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error_output::ErrorOutputType;
use super::event::PartitionKeys;
use super::format::{Compression, OutputFormat};
use super::place;
use super::range_set::RangeSet;
use super::unpack::Unpacking;
use crate::stream::ShardId;
use crate::{Error, ErrorKind, Result};

/// The format that this version writes. Runs were of indices in format 1, and are of places since.
const FORMAT: u32 = 2;
/// Runs of records in all objects that are sealed and not delivered: sealing waits beyond it, so that the state stays
/// within [`CONSUMER_STATE_BYTES_MAX`](crate::limits::CONSUMER_STATE_BYTES_MAX).
pub(super) const SEALED_RUNS_MAX: usize = 131_072;
/// Objects that are sealed and not delivered: sealing waits beyond it.
pub(super) const SEALED_MAX: usize = 1_000;
/// Runs of records in one buffer: it is sealed beyond it.
pub(super) const BUFFER_RUNS_MAX: usize = 32_768;
/// Runs that may be done ahead of the positions: beyond it the oldest buffer is sealed, so that positions move.
pub(super) const AHEAD_RUNS_MAX: usize = 131_072;

/// The committed state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    format: u32,
    /// Counts changes of the settings; stands in object names.
    pub(super) version: u64,
    /// Tells whether the settings changed.
    settings: u32,
    /// How the records were taken apart that `ahead` has parts of.
    #[serde(default)]
    unpacking: Unpacking,
    next_object: u64,
    next_schema: u64,
    schemas: BTreeMap<u64, StoredSchema>,
    schema: Option<u64>,
    pub(super) ahead: BTreeMap<ShardId, RangeSet>,
    sealed: BTreeMap<u64, SealedObject>,
}

/// An object that was promised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SealedObject {
    /// Where the data goes, if that is a store. None if all of its records have failed before, or were left out.
    pub(super) path: Option<String>,
    /// Where failed records go.
    pub(super) errors: BTreeMap<ErrorOutputType, String>,
    /// Set if all of its records have failed, in this way.
    pub(super) failed: Option<ErrorOutputType>,
    pub(super) partition: PartitionKeys,
    pub(super) format: OutputFormat,
    pub(super) schema: Option<u64>,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) members: BTreeMap<ShardId, RangeSet>,
    /// How its records were taken apart.
    #[serde(default)]
    pub(super) unpacking: Unpacking,
    /// Where the records go as they came, beside this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backup: Option<SealedBackup>,
}

/// A backup that was promised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SealedBackup {
    pub(super) path: String,
    pub(super) compression: Compression,
}

impl SealedObject {
    fn runs(&self) -> usize {
        self.members.values().map(RangeSet::runs).sum()
    }
}

/// A schema as an Arrow IPC stream without batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct StoredSchema(SchemaRef);

impl From<StoredSchema> for String {
    fn from(StoredSchema(schema): StoredSchema) -> Self {
        // Writing to memory cannot fail; what would not read back is found when it is read.
        let stream = StreamWriter::try_new(Vec::new(), &schema).and_then(StreamWriter::into_inner);
        STANDARD_NO_PAD.encode(stream.unwrap_or_default())
    }
}

impl TryFrom<String> for StoredSchema {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|error| error.to_string())?;
        let stream = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| error.to_string())?;
        Ok(Self(stream.schema()))
    }
}

impl Ledger {
    /// The state in `bytes`, or a new one. Raises the version if the settings are others than before. Of records that are
    /// taken apart in another way than before only whole ones stay done: the others come again, whole.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the state does not read back or a later version wrote it.
    pub(super) fn read(bytes: Option<&Bytes>, settings: u32, unpacking: &Unpacking) -> Result<Self> {
        let mut ledger = match bytes {
            None => Self::default(),
            Some(bytes) => serde_json::from_slice(bytes).map_err(|error| {
                Error::new(ErrorKind::Corrupt, "the delivery stream's state does not decode").with_source(error)
            })?,
        };
        if ledger.format > FORMAT {
            let format = ledger.format;
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("the delivery stream's state has format {format}, this version reads up to {FORMAT}"),
            ));
        }
        ledger.format = FORMAT;
        if ledger.unpacking != *unpacking {
            ledger.unpacking = unpacking.clone();
            for ahead in ledger.ahead.values_mut() {
                *ahead = ahead.map(place::whole);
            }
            ledger.ahead.retain(|_, ahead| !ahead.is_empty());
        }
        if ledger.version == 0 || ledger.settings != settings {
            ledger.version += 1;
            ledger.settings = settings;
        }
        Ok(ledger)
    }

    /// The state as it is committed.
    ///
    /// # Errors
    ///
    /// `Internal` if it does not encode.
    pub(super) fn write(&self) -> Result<Bytes> {
        let bytes = serde_json::to_vec(self);
        let bytes = bytes.map_err(|error| {
            Error::new(ErrorKind::Internal, "the delivery stream's state does not encode").with_source(error)
        })?;
        Ok(bytes.into())
    }

    /// The schema in use.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.schema.and_then(|number| self.schema_of(number))
    }

    pub(super) fn schema_of(&self, number: u64) -> Option<SchemaRef> {
        self.schemas.get(&number).map(|StoredSchema(schema)| Arc::clone(schema))
    }

    /// Uses `schema` from now on; answers its number. Objects sealed before keep theirs.
    pub(super) fn set_schema(&mut self, schema: &Schema) -> u64 {
        if let Some((&number, _)) = self.schemas.iter().find(|(_, stored)| *stored.0 == *schema) {
            self.schema = Some(number);
            return number;
        }
        let number = self.next_schema;
        self.next_schema += 1;
        self.schemas.insert(number, StoredSchema(Arc::new(schema.clone())));
        self.schema = Some(number);
        self.forget_unused_schemas();
        number
    }

    fn forget_unused_schemas(&mut self) {
        let (sealed, current) = (&self.sealed, self.schema);
        self.schemas.retain(|number, _| {
            current == Some(*number) || sealed.values().any(|object| object.schema == Some(*number))
        });
    }

    /// Promises an object; answers its number.
    pub(super) fn seal(&mut self, object: SealedObject) -> u64 {
        for (shard, members) in &object.members {
            self.ahead.entry(*shard).or_default().insert_all(members);
        }
        let number = self.next_object;
        self.next_object += 1;
        self.sealed.insert(number, object);
        number
    }

    /// The object is in the store.
    pub(super) fn delivered(&mut self, number: u64) {
        self.sealed.remove(&number);
        self.forget_unused_schemas();
    }

    /// The shard's position moved up to `index`.
    pub(super) fn move_to(&mut self, shard: ShardId, index: u64) {
        if let Some(ahead) = self.ahead.get_mut(&shard) {
            ahead.remove_through(place::last(index));
            if ahead.is_empty() {
                self.ahead.remove(&shard);
            }
        }
    }

    /// Objects that were promised and are not known to be in the store, by number.
    pub(super) fn sealed(&self) -> &BTreeMap<u64, SealedObject> {
        &self.sealed
    }

    /// The first index of a shard that is promised to an object which is not known to be in the store.
    pub(super) fn oldest_promised(&self, shard: ShardId) -> Option<u64> {
        let members = self.sealed.values().filter_map(|object| object.members.get(&shard));
        members.filter_map(|members| members.iter().next()).map(|(first, _)| place::index(first)).min()
    }

    /// Whether more may be sealed before something is delivered.
    pub(super) fn has_room(&self) -> bool {
        let runs: usize = self.sealed.values().map(SealedObject::runs).sum();
        self.sealed.len() < SEALED_MAX && runs < SEALED_RUNS_MAX
    }

    pub(super) fn runs_ahead(&self) -> usize {
        self.ahead.values().map(RangeSet::runs).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow_schema::{DataType, Field};
    use chrono::DateTime;

    use super::super::buffer::{BufferKey, Buffers, Push};
    use super::super::place::Part;
    use super::super::sealing::SEALED_AT_ONCE_RUNS;
    use super::*;
    use crate::limits::CONSUMER_STATE_BYTES_MAX;
    use crate::stream::SequenceNumber;

    fn object(first: u64, last: u64, schema: u64) -> SealedObject {
        let mut members = RangeSet::default();
        members.insert(place::first(first), place::last(last));
        SealedObject {
            path: Some("p/x.parquet".to_owned()),
            errors: [(ErrorOutputType::FormatConversionFailed, "e/x".to_owned())].into(),
            failed: None,
            partition: PartitionKeys::new([("day", "1")]),
            format: OutputFormat::default(),
            schema: Some(schema),
            records: 3,
            bytes: 100,
            members: [(ShardId::new(2), members)].into(),
            unpacking: Unpacking::default(),
            backup: None,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let plain = Unpacking::default();
        let mut ledger = Ledger::read(None, 7, &plain).unwrap();
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        let number = ledger.set_schema(&schema);
        ledger.seal(object(5, 9, number));
        let read = Ledger::read(Some(&ledger.write().unwrap()), 7, &plain).unwrap();
        assert_eq!(read, ledger);
        assert_eq!(read.schema().unwrap().as_ref(), &schema);
        assert_eq!(read.version, 1);
        assert_eq!(Ledger::read(Some(&ledger.write().unwrap()), 8, &plain).unwrap().version, 2);
    }

    #[test]
    fn a_later_format_and_damage_are_refused() {
        let later = Bytes::from_static(
            br#"{"format":3,"version":1,"settings":0,"next_object":0,"next_schema":0,"schemas":{},"schema":null,"ahead":{},"sealed":{}}"#,
        );
        for bytes in [later, Bytes::from_static(b"{")] {
            assert_eq!(Ledger::read(Some(&bytes), 0, &Unpacking::default()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn parts_of_records_that_are_taken_apart_in_another_way_come_again() {
        let unpacking = Unpacking { aggregates: true, ..Unpacking::default() };
        let mut ledger = Ledger::read(None, 7, &unpacking).unwrap();
        let mut runs = RangeSet::default();
        runs.insert(place::first(5), place::last(6));
        runs.insert(place::first(8) + 1, place::last(8));
        ledger.ahead.insert(ShardId::new(2), runs);
        let written = ledger.write().unwrap();
        let runs = |unpacking| Ledger::read(Some(&written), 7, unpacking).unwrap().ahead[&ShardId::new(2)].runs();
        assert_eq!((runs(&unpacking), runs(&Unpacking::default())), (2, 1));
    }

    #[test]
    fn a_schema_stays_as_long_as_an_object_needs_it() {
        let mut ledger = Ledger::default();
        let narrow = ledger.set_schema(&Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let sealed = ledger.seal(object(0, 1, narrow));
        let wide = ledger.set_schema(&Schema::new(vec![Field::new("a", DataType::Float64, true)]));
        assert_ne!(narrow, wide);
        assert!(ledger.schema_of(narrow).is_some());
        ledger.delivered(sealed);
        assert!(ledger.schema_of(narrow).is_none());
        assert!(ledger.schema_of(wide).is_some());
    }

    /// As many partitions as one commit seals, each with records that have nothing but others' around them.
    #[test]
    fn what_is_sealed_before_sealing_waits_can_be_committed() {
        const RECORDS: u64 = 900_000;
        const PARTITIONS: u64 = 128;
        const STEP: u64 = 200;
        let key = |partition: u64| BufferKey::Partition(PartitionKeys::new([("p", partition.to_string())]));
        let number = |record: u64| SequenceNumber::new(1, ShardId::new(2), record * STEP, 1);
        let mut buffers = Buffers::default();
        for partition in 0..PARTITIONS {
            for record in (1 + partition..RECORDS).step_by(usize::try_from(PARTITIONS).unwrap()) {
                let previous = Some(SequenceNumber::new(1, ShardId::new(2), record * STEP - 1, 1));
                let (sequence_number, arrival) = (number(record), DateTime::UNIX_EPOCH);
                let part = Part::WHOLE;
                let record =
                    Push { sequence_number, part, arrival, data: b"", source: None, previous, signature: None };
                buffers.push(key(partition), Duration::ZERO, record, None);
            }
        }
        let mut ledger = Ledger::default();
        while ledger.has_room() && !buffers.is_empty() {
            for (_, buffer) in buffers.take_within(buffers.all(), SEALED_AT_ONCE_RUNS) {
                ledger.seal(SealedObject { members: buffer.members().clone(), ..object(0, 0, 0) });
            }
        }
        let bytes = ledger.write().unwrap().len();
        assert!(bytes < CONSUMER_STATE_BYTES_MAX / 2, "{bytes} bytes of state for {} runs ahead", ledger.runs_ahead());
    }

    #[test]
    fn positions_absorb_what_is_ahead_of_them() {
        let mut ledger = Ledger::default();
        ledger.seal(object(5, 9, 0));
        assert_eq!(ledger.runs_ahead(), 1);
        ledger.move_to(ShardId::new(2), 6);
        let has = |index| ledger.ahead[&ShardId::new(2)].contains(place::first(index), place::last(index));
        assert!(!has(6) && has(7));
        ledger.move_to(ShardId::new(2), 9);
        assert!(ledger.ahead.is_empty());
    }
}
