//! Records inside records: what producers packed together is taken apart before anything else is done with it.
//!
//! In this order, each only if it is set: aggregates of the Kinesis Producer Library, gzip, CloudWatch Logs, several JSON
//! documents or delimited pieces. Pure: the same record and settings give the same parts, so that a restart finds the
//! parts that were promised.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::error_output::Failure;
use super::place::{PARTS_MAX, Part};
use crate::read::Record;
use crate::{Error, Result};

/// Bytes that one record may have when it is decompressed; one that has more is put aside.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a delimiter between the records inside a record.
pub const DELIMITER_BYTES_MAX: usize = 128;

/// How the payload of a record is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decompression {
    /// Gzip, of one member or several.
    Gzip,
}

/// What becomes of the payloads that a subscription of CloudWatch Logs sends: `DATA_MESSAGE`s with many log events.
/// Messages that only check the connection (`CONTROL_MESSAGE`) are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CloudWatchLogs {
    /// The message of each log event is a record: Firehose's message extraction.
    Messages,
    /// Each log event is a record, a JSON object with `owner`, `logGroup`, `logStream`, `subscriptionFilters`, and all
    /// that the event itself has (`id`, `timestamp`, `message`).
    Events,
}

/// How a record holds several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Deaggregation {
    /// JSON documents one after another, with or without white space between them.
    Json,
    /// Pieces between these bytes, 1 to [`DELIMITER_BYTES_MAX`]; empty ones are left out.
    Delimited(Vec<u8>),
}

/// What is taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Unpacking {
    /// Aggregates of the Kinesis Producer Library.
    pub(super) aggregates: bool,
    pub(super) decompression: Option<Decompression>,
    pub(super) cloudwatch_logs: Option<CloudWatchLogs>,
    pub(super) deaggregation: Option<Deaggregation>,
}

/// A record, or a part of one: `record` has the part's payload then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unpacked {
    pub(super) record: Record,
    pub(super) part: Part,
    pub(super) result: Result<Content, Failure>,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Its record's payload.
    Data,
    /// Nothing: its record holds no data.
    Nothing,
}

impl Unpacking {
    /// Checks the delimiter.
    ///
    /// # Errors
    ///
    /// `InvalidInput` that names the bounds.
    pub(super) fn check(&self) -> Result<()> {
        match &self.deaggregation {
            Some(Deaggregation::Delimited(delimiter)) if !(1..=DELIMITER_BYTES_MAX).contains(&delimiter.len()) => {
                let bytes = delimiter.len();
                Err(Error::invalid(format!("a delimiter of {bytes} bytes: 1 to {DELIMITER_BYTES_MAX} are possible")))
            }
            _ => Ok(()),
        }
    }

    /// The parts of each record, in order: at least one of each.
    pub(super) fn unpack(&self, records: Vec<Record>) -> Vec<Unpacked> {
        if *self == Self::default() {
            return records.into_iter().map(Unpacked::whole).collect();
        }
        let mut unpacked = Vec::with_capacity(records.len());
        for record in records {
            self.unpack_one(record, &mut unpacked);
        }
        unpacked
    }

    fn unpack_one(&self, record: Record, out: &mut Vec<Unpacked>) {
        let users = if self.aggregates {
            record.user_records().into_iter().map(|user| user.record).collect()
        } else {
            vec![record.clone()]
        };
        let mut parts = Vec::with_capacity(users.len());
        for user in users {
            match self.contents(&user.data) {
                Ok(contents) => {
                    parts.extend(contents.into_iter().map(|data| (Record { data, ..user.clone() }, Ok(Content::Data))));
                }
                Err(failure) => parts.push((user, Err(failure))),
            }
        }
        if parts.is_empty() {
            parts.push((record.clone(), Ok(Content::Nothing)));
        }
        if parts.len() > PARTS_MAX {
            let message = format!("the record holds {} records: at most {PARTS_MAX} are taken apart", parts.len());
            parts = vec![(record, Err(Failure::unpacking(message)))];
        }
        let last = parts.len() - 1;
        out.extend((0..).zip(parts).enumerate().map(|(at, (number, (record, result)))| Unpacked {
            record,
            part: Part { number, is_last: at == last },
            result,
        }));
    }

    /// The payloads inside a payload.
    fn contents(&self, data: &Bytes) -> Result<Vec<Bytes>, Failure> {
        let mut contents = vec![data.clone()];
        if let Some(Decompression::Gzip) = self.decompression {
            contents = vec![gunzip(data)?];
        }
        if let Some(logs) = self.cloudwatch_logs {
            contents = each(contents, |payload| log_events(payload, logs))?;
        }
        match &self.deaggregation {
            None => Ok(contents),
            Some(Deaggregation::Json) => each(contents, json_documents),
            Some(Deaggregation::Delimited(delimiter)) => each(contents, |payload| Ok(pieces(payload, delimiter))),
        }
    }
}

impl Unpacked {
    fn whole(record: Record) -> Self {
        Self { record, part: Part::WHOLE, result: Ok(Content::Data) }
    }
}

fn each(contents: Vec<Bytes>, inside: impl Fn(&Bytes) -> Result<Vec<Bytes>, Failure>) -> Result<Vec<Bytes>, Failure> {
    let mut all = Vec::new();
    for content in contents {
        all.extend(inside(&content)?);
    }
    Ok(all)
}

fn gunzip(data: &Bytes) -> Result<Bytes, Failure> {
    let mut plain = Vec::new();
    let most = DECOMPRESSED_BYTES_MAX as u64;
    match MultiGzDecoder::new(data.as_ref()).take(most + 1).read_to_end(&mut plain) {
        Ok(bytes) if bytes as u64 > most => {
            Err(Failure::decompression(format!("the record has more than {most} bytes when it is decompressed")))
        }
        Ok(_) => Ok(plain.into()),
        Err(error) => Err(Failure::decompression(format!("the record is no gzip: {error}"))),
    }
}

/// What a subscription of CloudWatch Logs sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    message_type: String,
    #[serde(default)]
    owner: serde_json::Value,
    #[serde(default)]
    log_group: serde_json::Value,
    #[serde(default)]
    log_stream: serde_json::Value,
    #[serde(default)]
    subscription_filters: serde_json::Value,
    #[serde(default)]
    log_events: Vec<serde_json::Map<String, serde_json::Value>>,
}

fn log_events(data: &Bytes, logs: CloudWatchLogs) -> Result<Vec<Bytes>, Failure> {
    let refused = |why: String| Failure::unpacking(format!("the record is no payload of CloudWatch Logs: {why}"));
    let subscription: Subscription = serde_json::from_slice(data).map_err(|error| refused(error.to_string()))?;
    match subscription.message_type.as_str() {
        "CONTROL_MESSAGE" => return Ok(Vec::new()),
        "DATA_MESSAGE" => {}
        other => return Err(refused(format!("messageType '{other:.100}'"))),
    }
    let common = [
        ("owner", subscription.owner),
        ("logGroup", subscription.log_group),
        ("logStream", subscription.log_stream),
        ("subscriptionFilters", subscription.subscription_filters),
    ];
    let unpacked = |mut event: serde_json::Map<String, serde_json::Value>| match logs {
        CloudWatchLogs::Messages => match event.remove("message") {
            Some(serde_json::Value::String(message)) => Ok(Bytes::from(message)),
            _ => Err(refused("a log event without a message".to_owned())),
        },
        CloudWatchLogs::Events => {
            for (name, value) in &common {
                event.entry(*name).or_insert_with(|| value.clone());
            }
            serde_json::to_vec(&event).map(Bytes::from).map_err(|error| refused(error.to_string()))
        }
    };
    subscription.log_events.into_iter().map(unpacked).collect()
}

/// The JSON documents that stand one after another.
fn json_documents(data: &Bytes) -> Result<Vec<Bytes>, Failure> {
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_slice(data).into_iter::<IgnoredAny>();
    let mut from = 0;
    while let Some(document) = stream.next() {
        document
            .map_err(|error| Failure::unpacking(format!("the record is no sequence of JSON documents: {error}")))?;
        let to = stream.byte_offset();
        let text = data.get(from..to).unwrap_or_default();
        documents.push(data.slice_ref(text.trim_ascii()));
        from = to;
    }
    Ok(documents)
}

/// The pieces between delimiters, less those that are empty.
fn pieces(data: &Bytes, delimiter: &[u8]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut rest = data.as_ref();
    while !rest.is_empty() {
        let found = rest.windows(delimiter.len()).position(|window| window == delimiter);
        let (piece, behind) = match found {
            Some(at) => (&rest[..at], &rest[at + delimiter.len()..]),
            None => (rest, &rest[rest.len()..]),
        };
        if !piece.is_empty() {
            pieces.push(data.slice_ref(piece));
        }
        rest = behind;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::read::PartitionKey;
    use crate::stream::{HashKey, SequenceNumber, ShardId};

    fn record(data: impl Into<Bytes>) -> Record {
        Record {
            sequence_number: SequenceNumber::new(1, ShardId::new(0), 7, 2),
            arrival: DateTime::UNIX_EPOCH,
            partition_key: PartitionKey::new(Bytes::from_static(b"k")),
            hash_key: HashKey::of("k"),
            data: data.into(),
        }
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// The payloads of the parts, or why there are none.
    fn unpacked(unpacking: &Unpacking, data: impl Into<Bytes>) -> Result<Vec<String>, String> {
        let parts = unpacking.unpack(vec![record(data)]);
        for (number, part) in (0..).zip(&parts) {
            assert_eq!((part.part.number, part.part.is_last), (number, usize::from(number) + 1 == parts.len()));
        }
        let text = |part: Unpacked| match part.result {
            Ok(Content::Data) => Some(Ok(String::from_utf8_lossy(&part.record.data).into_owned())),
            Ok(Content::Nothing) => None,
            Err(failure) => Some(Err(failure.message)),
        };
        parts.into_iter().filter_map(text).collect()
    }

    fn json() -> Unpacking {
        Unpacking { deaggregation: Some(Deaggregation::Json), ..Unpacking::default() }
    }

    fn delimited(delimiter: &[u8]) -> Unpacking {
        Unpacking { deaggregation: Some(Deaggregation::Delimited(delimiter.to_vec())), ..Unpacking::default() }
    }

    fn logs(logs: CloudWatchLogs) -> Unpacking {
        let decompression = Some(Decompression::Gzip);
        Unpacking { decompression, cloudwatch_logs: Some(logs), ..Unpacking::default() }
    }

    #[test]
    fn json_documents_are_taken_apart_wherever_one_ends() {
        let documents = [r#"{"a":"}{"}"#, r#"{"b":[{}]}"#, "{}"];
        for between in ["", "\n", " \r\n\t"] {
            assert_eq!(unpacked(&json(), documents.join(between)).unwrap(), documents);
        }
        assert_eq!(unpacked(&json(), "  ").unwrap(), [""; 0]);
        let refused = unpacked(&json(), r#"{"a":1}{"b"#).unwrap_err();
        assert!(refused.contains("no sequence of JSON documents"), "{refused}");
    }

    #[test]
    fn pieces_lie_between_delimiters() {
        assert_eq!(unpacked(&delimited(b"####"), "a####b####").unwrap(), ["a", "b"]);
        assert_eq!(unpacked(&delimited(b"\n"), "\n\na").unwrap(), ["a"]);
        assert_eq!(unpacked(&delimited(b"\n"), "").unwrap(), [""; 0]);
        assert!(delimited(b"").check().is_err() && delimited(&[0; DELIMITER_BYTES_MAX]).check().is_ok());
    }

    #[test]
    fn log_events_are_taken_out_of_their_payload() {
        let payload = br#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s",
            "subscriptionFilters":["f"],"logEvents":[{"id":"1","timestamp":5,"message":"one"},
            {"id":"2","timestamp":6,"message":"two\nlines"}]}"#;
        assert_eq!(unpacked(&logs(CloudWatchLogs::Messages), gzip(payload)).unwrap(), ["one", "two\nlines"]);
        let events = unpacked(&logs(CloudWatchLogs::Events), gzip(payload)).unwrap();
        let event: serde_json::Value = serde_json::from_str(&events[1]).unwrap();
        let expected = serde_json::json!({"owner": "1", "logGroup": "g", "logStream": "s", "subscriptionFilters": ["f"],
            "id": "2", "timestamp": 6, "message": "two\nlines"});
        assert_eq!(event, expected);
        let control = gzip(br#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","message":"x"}]}"#);
        assert_eq!(unpacked(&logs(CloudWatchLogs::Messages), control).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_not_what_it_should_be_is_put_aside_with_its_reason() {
        let unpacking = logs(CloudWatchLogs::Messages);
        for (data, reason) in [
            (b"plain".to_vec(), "no gzip"),
            (gzip(b"{}")[..10].to_vec(), "no gzip"),
            (gzip(b"{}"), "messageType"),
            (gzip(br#"{"messageType":"OTHER"}"#), "messageType 'OTHER'"),
            (gzip(br#"{"messageType":"DATA_MESSAGE","logEvents":[{}]}"#), "without a message"),
            (gzip(&vec![b' '; DECOMPRESSED_BYTES_MAX + 1]), "more than"),
        ] {
            let refused = unpacked(&unpacking, data).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        let many = "x\n".repeat(PARTS_MAX + 1);
        assert!(unpacked(&delimited(b"\n"), many).unwrap_err().contains("at most 65536"));
    }

    proptest! {
        #[test]
        fn any_bytes_have_parts(data: Vec<u8>, delimiter in proptest::collection::vec(any::<u8>(), 1..3)) {
            let delimited = Deaggregation::Delimited(delimiter);
            for deaggregation in [None, Some(Deaggregation::Json), Some(delimited)] {
                for (aggregates, decompression) in [(true, None), (false, Some(Decompression::Gzip))] {
                    let cloudwatch_logs = None;
                    let unpacking = Unpacking { aggregates, decompression, cloudwatch_logs, deaggregation: deaggregation.clone() };
                    prop_assert!(!unpacking.unpack(vec![record(data.clone())]).is_empty());
                }
            }
        }

        #[test]
        fn what_was_joined_is_taken_apart(pieces in proptest::collection::vec("[a-z]{1,5}", 0..20)) {
            prop_assert_eq!(unpacked(&delimited(b"--"), pieces.join("--")).unwrap(), pieces.clone());
            let documents: Vec<_> = pieces.iter().map(|piece| format!("{{\"{piece}\":1}}")).collect();
            prop_assert_eq!(unpacked(&json(), documents.concat()).unwrap(), documents);
        }
    }
}
