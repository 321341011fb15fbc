//! A stream is a table: SQL finds every record that a reader finds, and reads only what a filter leaves.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use durable_core::{Clock, ManualClock};
use kinesis_core::table::datafusion::arrow::array::{Array, AsArray, RecordBatch};
use kinesis_core::table::datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMillisecondType};
use kinesis_core::table::datafusion::prelude::SessionContext;
use kinesis_core::table::{CsvSettings, RecordFormat, StreamTable, Undecodable};
use kinesis_core::{Compression, DataStream, ErrorKind, Kinesis, PutRecord, SequenceNumber, ShardId};

use super::stage::{self, read_all, small, small_settings};

/// Puts so many at once as the small tail takes.
async fn put(stream: &DataStream, numbers: Range<u64>) -> Vec<(ShardId, SequenceNumber)> {
    let mut stored = Vec::new();
    for from in numbers.clone().step_by(100) {
        stored.extend(stage::put(stream, from..numbers.end.min(from + 100)).await);
    }
    stored
}

type Row = (String, String, i64, String, Vec<u8>, Vec<u8>);

async fn query(table: StreamTable, sql: &str) -> Vec<RecordBatch> {
    tried(table, sql).await.unwrap()
}

async fn tried(table: StreamTable, sql: &str) -> kinesis_core::table::datafusion::error::Result<Vec<RecordBatch>> {
    let session = SessionContext::new();
    session.register_table("s", Arc::new(table))?;
    session.sql(sql).await?.collect().await
}

/// The one number that a query answers.
async fn number(table: StreamTable, sql: &str) -> i64 {
    let batches = query(table, sql).await;
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn plan(table: StreamTable, sql: &str) -> String {
    let batches = query(table, &format!("EXPLAIN {sql}")).await;
    let plans: Vec<String> = batches
        .iter()
        .flat_map(|batch| batch.column(1).as_string::<i32>().iter().flatten().map(str::to_owned))
        .collect();
    plans.concat()
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> String {
    batch.column(column).as_string::<i32>().value(row).to_owned()
}

fn rows(batches: &[RecordBatch]) -> BTreeSet<Row> {
    let of = |batch: &RecordBatch, row: usize| {
        (
            text(batch, 0, row),
            text(batch, 1, row),
            batch.column(2).as_primitive::<TimestampMillisecondType>().value(row),
            text(batch, 3, row),
            batch.column(4).as_fixed_size_binary().value(row).to_vec(),
            batch.column(5).as_binary::<i32>().value(row).to_vec(),
        )
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| of(batch, row))).collect()
}

/// What readers find.
async fn found(stream: &DataStream) -> BTreeSet<Row> {
    let mut all = BTreeSet::new();
    for (shard, records) in read_all(stream).await.unwrap() {
        all.extend(records.iter().map(|record| {
            (
                shard.to_string(),
                record.sequence_number.to_string(),
                record.arrival.timestamp_millis(),
                record.partition_key.as_str().to_owned(),
                record.hash_key.0.to_be_bytes().to_vec(),
                record.data.to_vec(),
            )
        }));
    }
    all
}

#[tokio::test]
async fn it_has_what_readers_find_in_segments_and_tail_of_open_and_closed_shards() {
    for compression in [Compression::None, Compression::Zstd] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let settings = small_settings().with_segment_compression(compression);
        let kinesis = small(dir.path(), &clock).with_settings(settings).open().await.unwrap();
        let stream = kinesis.create_stream("s", 3).await.unwrap();
        for round in 0..6 {
            put(&stream, round * 300..(round + 1) * 300).await;
            clock.advance(Duration::from_secs(60));
            match round {
                2 => stream.split_shard(ShardId::new(0), kinesis_core::HashKey(1 << 100)).await.unwrap(),
                1 | 3 => kinesis.seal().await.unwrap(),
                _ => {}
            }
        }
        let batches = query(StreamTable::new(stream.clone()), "SELECT * FROM s").await;
        let expected = found(&stream).await;
        assert_eq!(expected.len(), 1800);
        assert_eq!(rows(&batches), expected);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1800);
        // A projection without any column counts, and one that orders its columns otherwise has them so.
        assert_eq!(number(StreamTable::new(stream.clone()), "SELECT count(*) FROM s WHERE 1 = 1").await, 1800);
        let swapped = query(StreamTable::new(stream.clone()), "SELECT data, shard_id FROM s LIMIT 5").await;
        assert_eq!(swapped.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
        assert_eq!(swapped[0].schema().field(0).name(), "data");
        kinesis.close().await.unwrap();
        let error = tried(StreamTable::new(stream), "SELECT * FROM s").await.unwrap_err();
        assert!(error.to_string().contains("this instance was closed"), "{error}");
    }
}

#[tokio::test]
async fn what_a_filter_rules_out_is_not_read() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    // Segments are made when asked for, and by nothing else.
    let open = || Kinesis::at(dir.path()).with_clock(Arc::new(clock.clone())).open();
    let kinesis = open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let mut stored = Vec::new();
    for round in 0..5 {
        stored.extend(put(&stream, round * 200..(round + 1) * 200).await);
        kinesis.seal().await.unwrap();
        clock.advance(Duration::from_secs(3600));
    }
    // Opened again, so that no sealed record is in memory.
    kinesis.close().await.unwrap();
    let kinesis = open().await.unwrap();
    let stream = kinesis.stream("s").unwrap();
    put(&stream, 1000..1100).await;
    let all = found(&stream).await;
    let table = || StreamTable::new(stream.clone());
    let read = |sql: &str| {
        let (sql, kinesis, table) = (sql.to_owned(), &kinesis, table());
        async move {
            let before = kinesis.metrics();
            let batches = query(table, &sql).await;
            let after = kinesis.metrics();
            let touched = after.fetched_segments + after.cache_hits - before.fetched_segments - before.cache_hits;
            (rows(&batches), touched)
        }
    };
    let since = (clock.now() - Duration::from_secs(2 * 3600 + 60)).to_rfc3339();
    let (recent, touched) = read(&format!("SELECT * FROM s WHERE approximate_arrival_timestamp >= '{since}'")).await;
    let at_ms = (clock.now() - Duration::from_secs(2 * 3600 + 60)).timestamp_millis();
    assert_eq!(recent, all.iter().filter(|row| row.2 >= at_ms).cloned().collect());
    assert!(touched <= 4, "two rounds of two shards: {touched}");
    let (old, touched) = read(&format!("SELECT * FROM s WHERE approximate_arrival_timestamp < '{since}'")).await;
    assert_eq!(old, all.iter().filter(|row| row.2 < at_ms).cloned().collect());
    assert!(touched <= 6, "three rounds of two shards: {touched}");
    let (one, touched) = read(&format!("SELECT * FROM s WHERE sequence_number = '{}'", stored[500].1)).await;
    assert_eq!(one.len(), 1);
    assert_eq!(touched, 1);
    let (behind, _) = read(&format!("SELECT * FROM s WHERE sequence_number > '{}'", stored[500].1)).await;
    assert_eq!(behind, all.iter().filter(|row| row.1 > stored[500].1.to_string()).cloned().collect());
    let (shard, touched) = read("SELECT * FROM s WHERE shard_id IN ('shardId-000000000001', 'x')").await;
    assert_eq!(shard, all.iter().filter(|row| row.0 == "shardId-000000000001").cloned().collect());
    assert!(touched <= 5, "{touched}");
    // What is known of the segments alone answers how many there are.
    let before = kinesis.metrics();
    assert_eq!(number(table(), "SELECT count(*) FROM s").await, 1100);
    let after = kinesis.metrics();
    assert_eq!((after.fetched_segments, after.cache_hits), (before.fetched_segments, before.cache_hits));
    let plan = plan(table(), "SELECT * FROM s WHERE shard_id = 'shardId-000000000001'").await;
    assert!(plan.contains("StreamScan: stream=s, shards=1, segments=5, tails=1, pruned=6, format=none"), "{plan}");
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn a_scan_is_of_the_moment_it_was_planned() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    put(&stream, 0..300).await;
    let session = SessionContext::new();
    session.register_table("s", Arc::new(StreamTable::new(stream.clone()))).unwrap();
    let frame = session.sql("SELECT * FROM s").await.unwrap();
    let planned = frame.create_physical_plan().await.unwrap();
    let before = found(&stream).await;
    put(&stream, 300..600).await;
    // Records move into segments between planning and reading.
    kinesis.seal().await.unwrap();
    put(&stream, 600..700).await;
    let read = kinesis_core::table::datafusion::physical_plan::collect(planned, session.task_ctx()).await.unwrap();
    assert_eq!(rows(&read), before);

    // What retention takes between planning and reading is left out.
    let frame = session.sql("SELECT * FROM s").await.unwrap();
    let planned = frame.create_physical_plan().await.unwrap();
    clock.advance(Duration::from_secs(25 * 3600));
    kinesis.seal().await.unwrap();
    put(&stream, 700..701).await;
    let read = kinesis_core::table::datafusion::physical_plan::collect(planned, session.task_ctx()).await.unwrap();
    let left = found(&stream).await;
    assert!(rows(&read).iter().all(|row| left.contains(row)));
    assert!(left.len() - read.iter().map(RecordBatch::num_rows).sum::<usize>() >= 1);
    kinesis.close().await.unwrap();
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("city", DataType::Utf8, true)]))
}

/// An Avro datum of a record of a long and a string, as the specification has it.
fn datum(id: i64, city: &str) -> Vec<u8> {
    let varint = |number: i64| {
        let mut zigzag = (number << 1 ^ number >> 63).cast_unsigned();
        let mut bytes = Vec::new();
        while zigzag >= 0x80 {
            bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        bytes.push(zigzag as u8);
        bytes
    };
    [varint(id), varint(city.len().try_into().unwrap()), city.as_bytes().to_vec()].concat()
}

const AVRO: &str = r#"{"type": "record", "name": "Trip", "fields": [
    {"name": "id", "type": "long"}, {"name": "city", "type": "string"}]}"#;

#[tokio::test]
async fn payloads_are_columns_of_the_schema_they_are_given() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    type Encode = fn(i64) -> Vec<u8>;
    let payload: [(&str, Encode, RecordFormat); 3] = [
        (
            "json",
            |id| format!(r#"{{"CITY": "c{}", "id": {id}, "other": [1]}}"#, id % 7).into_bytes(),
            RecordFormat::json(schema()).unwrap(),
        ),
        (
            "csv",
            |id| format!("{id},\"c{}\"\n", id % 7).into_bytes(),
            RecordFormat::csv(schema(), CsvSettings::default().with_header(false)).unwrap(),
        ),
        ("avro", |id| datum(id, &format!("c{}", id % 7)), RecordFormat::avro(AVRO).unwrap()),
    ];
    for (name, encode, format) in payload {
        let stream = kinesis.create_stream(name, 2).await.unwrap();
        for ids in [0..500, 500..1000_i64] {
            let records = ids.map(|id| PutRecord::new(encode(id), format!("k{id}"))).collect::<Vec<_>>();
            for part in records.chunks(100) {
                let output = stream.put_records(part.to_vec()).await.unwrap();
                assert_eq!(output.stored(), part.len());
            }
            if kinesis.metrics().sealed_segments == 0 {
                kinesis.seal().await.unwrap();
            }
        }
        let table = || StreamTable::new(stream.clone()).with_format(format.clone()).unwrap();
        let sql = "SELECT city, count(*), sum(id) FROM s GROUP BY city ORDER BY city";
        let batches = query(table(), sql).await;
        let found: Vec<_> = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)))
            .map(|(batch, row)| {
                let number = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
                (text(batch, 0, row), number(1), number(2))
            })
            .collect();
        let expected: Vec<_> = (0..7)
            .map(|city| {
                let ids = (0..1000).filter(|id| id % 7 == city);
                (format!("c{city}"), i64::try_from(ids.clone().count()).unwrap(), ids.sum::<i64>())
            })
            .collect();
        assert_eq!(found, expected, "{name}");
        // One column alone, and one in front of the record's own.
        assert_eq!(number(table(), "SELECT sum(id) FROM s").await, (0..1000).sum::<i64>());
        let both = query(table(), "SELECT city, partition_key, id FROM s WHERE id = 77").await;
        assert_eq!((text(&both[0], 0, 0), text(&both[0], 1, 0)), ("c0".to_owned(), "k77".to_owned()));

        // A record of another kind fails the query by its name, or is NULL.
        let bad = stream.put_record(PutRecord::new("x\ny", "k")).await.unwrap();
        let error = tried(table(), "SELECT sum(id) FROM s").await.unwrap_err().to_string();
        let expected = format!("record {} of {} in stream '{name}' is no {name}", bad.sequence_number, bad.shard_id);
        assert!(error.contains(&expected), "{error}");
        let nulls = || table().with_undecodable(Undecodable::Null);
        assert_eq!(number(nulls(), "SELECT sum(id) FROM s").await, (0..1000).sum::<i64>());
        assert_eq!(number(nulls(), "SELECT count(*) FROM s WHERE id IS NULL").await, 1);
        let null = query(nulls(), "SELECT sequence_number, data FROM s WHERE city IS NULL").await;
        assert_eq!(text(&null[0], 0, 0), bad.sequence_number.to_string());
        assert_eq!(null[0].column(1).as_binary::<i32>().value(0), b"x\ny");
        assert_eq!(null[0].column(1).null_count(), 0);
    }
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn avro_may_name_its_schema_and_must_be_whole() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let named = |fingerprint: u64, datum: &[u8]| [&[0xC3, 0x01][..], &fingerprint.to_le_bytes(), datum].concat();
    // CRC-64-AVRO of the schema's canonical form, computed by fastavro.
    let ours = 0x46AA_92F8_1D8D_B983;
    let good = [datum(1, "a"), named(ours, &datum(2, "b")), datum(-3, "")];
    let cut = datum(9, "abcdef");
    let bad = [
        cut[..cut.len() - 2].to_vec(),
        [datum(4, "a"), b"tail".to_vec()].concat(),
        Vec::new(),
        named(ours ^ 1, &datum(5, "c")),
        vec![0xFF; 40],
        b"\x02\x09ab".to_vec(),
    ];
    let mixed = [&bad[..3], &good[..2], &bad[3..], &good[2..]].concat();
    for payload in &mixed {
        stream.put_record(PutRecord::new(payload.clone(), "k")).await.unwrap();
    }
    let format = RecordFormat::avro(AVRO).unwrap();
    let table = StreamTable::new(stream).with_format(format).unwrap().with_undecodable(Undecodable::Null);
    let batches = query(table, "SELECT id, city FROM s ORDER BY sequence_number").await;
    let rows: Vec<_> = batches
        .iter()
        .flat_map(|batch| {
            let (ids, cities) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
            ids.iter().zip(cities.iter().map(|city| city.map(str::to_owned))).collect::<Vec<_>>()
        })
        .collect();
    let row = |id: i64, city: &str| (Some(id), Some(city.to_owned()));
    let none = (None, None);
    let expected = [
        none.clone(),
        none.clone(),
        none.clone(),
        row(1, "a"),
        row(2, "b"),
        none.clone(),
        none.clone(),
        none,
        row(-3, ""),
    ];
    assert_eq!(rows, expected);
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_a_table_is_refused() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    stream.put_record(PutRecord::new(r#"{"data": 7}"#, "k")).await.unwrap();
    let data = Arc::new(Schema::new(vec![Field::new("data", DataType::Int64, true)]));
    let format = RecordFormat::json(data).unwrap();
    let error = StreamTable::new(stream.clone()).with_format(format.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("two columns are named \"data\""), "{error}");
    let table = StreamTable::new(stream.clone()).with_record_prefix("_").unwrap().with_format(format).unwrap();
    assert_eq!(number(table.clone(), "SELECT data FROM s WHERE _shard_id = 'shardId-000000000000'").await, 7);
    assert_eq!(number(table, "SELECT count(*) FROM s WHERE _shard_id = 'shardId-000000000001'").await, 0);
    for schema in ["", "{}", r#"{"type": "record"}"#, r#""long""#] {
        let error = RecordFormat::avro(schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{schema}");
    }
    let error = RecordFormat::csv(schema(), CsvSettings::default().with_header(true)).unwrap_err();
    assert!(error.message().contains("without a header"), "{error}");
    kinesis.delete_stream("s").await.unwrap();
    let error = tried(StreamTable::new(stream), "SELECT * FROM s").await.unwrap_err();
    assert!(error.to_string().contains("was deleted"), "{error}");
    kinesis.close().await.unwrap();
}
