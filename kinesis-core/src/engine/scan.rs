//! Scanning: all that is kept of a stream at one moment, in stretches that are read one by one, as Arrow batches.
//!
//! Invariant: a scan reads what was there when it was planned and nothing that came later. What retention takes meanwhile
//! is left out, as if the scan had begun later.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use durable_core::ErrorKind;

use super::Engine;
use super::log::{Found, ShardState};
use super::state::StreamState;
use crate::error::{Error, Result};
use crate::read::From;
use crate::segment::{SegmentRow, Wanted, columns, record_batch};
use crate::tail::{Budget, TailEntry};

/// Records of the tail in one batch at most.
const TAIL_ROWS: usize = 8192;
/// Bytes of payload of the tail in one batch, about.
const TAIL_BYTES: usize = 4 * 1024 * 1024;

/// Consecutive records of one shard: a segment, or all above the segments.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) shard: Arc<ShardState>,
    pub(crate) indices: RangeInclusive<u64>,
    pub(crate) records: u64,
    /// Of a segment: the bytes of its object.
    pub(crate) bytes: u64,
    /// When its records arrived, milliseconds since 1970, as far as that is known.
    pub(crate) earliest_arrival_ms: Option<i64>,
    pub(crate) latest_arrival_ms: Option<i64>,
    pub(crate) is_sealed: bool,
}

impl StreamState {
    /// Everything that is kept of the stream now, shard by shard, oldest first.
    pub(crate) fn extents(&self) -> Vec<Extent> {
        self.shards().values().flat_map(extents).collect()
    }
}

fn extents(shard: &Arc<ShardState>) -> Vec<Extent> {
    let log = shard.log();
    let end = *shard.end.borrow();
    let sealed = log.segments.iter().map(|segment| Extent {
        shard: Arc::clone(shard),
        indices: segment.first..=segment.last,
        records: segment.records,
        bytes: segment.bytes,
        earliest_arrival_ms: segment.earliest_arrival_ms,
        latest_arrival_ms: Some(segment.latest_arrival_ms),
        is_sealed: true,
    });
    let mut extents: Vec<_> = sealed.collect();
    let above = log.sealed_through.max(log.trimmed_through);
    let records = log.tail.count(above, end) as u64;
    if records > 0 {
        extents.push(Extent {
            shard: Arc::clone(shard),
            indices: above + 1..=end,
            records,
            bytes: 0,
            earliest_arrival_ms: None,
            latest_arrival_ms: None,
            is_sealed: false,
        });
    }
    extents
}

impl Engine {
    /// The first records of these indices, and the index behind them to go on from; none if there are no more.
    pub(crate) async fn scan(
        &self,
        stream: &StreamState,
        shard: &ShardState,
        indices: RangeInclusive<u64>,
    ) -> Result<Option<(Vec<RecordBatch>, u64)>> {
        let (mut from, through) = indices.into_inner();
        loop {
            self.check_open()?;
            stream.check()?;
            from = from.max(shard.log().trimmed_through + 1);
            if from > through {
                return Ok(None);
            }
            let mut budget = Budget::new(TAIL_ROWS, TAIL_BYTES);
            let found = match shard.log().find(shard.stamp.id, From::Index(from), &mut budget) {
                // Retention took it since.
                Err(error) if error.kind() == ErrorKind::Expired => continue,
                found => found?,
            };
            match found {
                Found::Tail(mut entries) => {
                    entries.retain(|entry| entry.index <= through);
                    let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(None) };
                    let rows = entries.iter().map(TailEntry::row).collect::<Result<Vec<SegmentRow>>>()?;
                    let batch = record_batch(&schema(), &rows).map_err(|error| unmade(shard, error))?;
                    return Ok(Some((vec![batch], last + 1)));
                }
                Found::Segment(segment, from) => {
                    let path = self.segment_path(stream.id, shard.stamp.id, &segment);
                    match self.cache.get(&path, &segment, Wanted::Index(from)).await {
                        Ok(stretch) => {
                            let next = stretch.last().unwrap_or(from).saturating_add(1);
                            if next <= through {
                                self.prefetch(stream, shard, next);
                            }
                            let batches = stretch.batches(from..=through).map_err(|error| unmade(shard, error))?;
                            return Ok(Some((batches, next)));
                        }
                        Err(error) if error.kind() == ErrorKind::NotFound => {
                            self.lost(stream, shard, &segment, error)?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

/// What scanned batches look like.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(columns()))
}

fn unmade(shard: &ShardState, error: ArrowError) -> Error {
    Error::new(ErrorKind::Internal, format!("no batch was made of records of {}", shard.stamp.id)).with_source(error)
}
