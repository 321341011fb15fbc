//! One set of types, both encodings: what is written is read as it was, and AWS's clients' own forms are read too.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::DateTime;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use wire_core::{Blob, Encoding, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    stream_name: String,
    records: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i32>,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    data: Blob,
    at: Timestamp,
    size: u64,
    offset: i64,
    ratio: f64,
}

fn entry() -> impl Strategy<Value = Entry> {
    let milliseconds = -8_000_000_000_000_i64..8_000_000_000_000;
    let data = prop::collection::vec(any::<u8>(), 0..5000);
    (data, milliseconds, any::<u64>(), any::<i64>(), any::<i32>()).prop_map(
        |(data, milliseconds, size, offset, ratio)| {
            let at = DateTime::from_timestamp_millis(milliseconds).unwrap().into();
            // serde_json reads other floats to within one unit in the last place.
            Entry { data: data.into(), at, size, offset, ratio: f64::from(ratio) / 8.0 }
        },
    )
}

fn put() -> impl Strategy<Value = Put> {
    let tags = prop::collection::btree_map(".*", ".*", 0..4);
    (".*", prop::collection::vec(entry(), 0..6), any::<Option<i32>>(), tags)
        .prop_map(|(stream_name, records, limit, tags)| Put { stream_name, records, limit, tags })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(put in put()) {
        for encoding in [Encoding::Json10, Encoding::Json11, Encoding::Cbor11] {
            prop_assert_eq!(&encoding.decode::<Put>(&encoding.encode(&put).unwrap()).unwrap(), &put);
        }
    }
}

fn cbor(bytes: &'static [u8]) -> Entry {
    Encoding::Cbor11.decode(&Bytes::from_static(bytes)).unwrap()
}

fn expected() -> Entry {
    let at = DateTime::from_timestamp_millis(1_767_225_600_123).unwrap().into();
    Entry { data: "hello".into(), at, size: 7, offset: -3, ratio: 0.5 }
}

#[test]
fn a_java_clients_cbor_is_read() {
    // Open map; texts and bytes in chunks; a timestamp as tag 1 of milliseconds; a member that is not known.
    let bytes = b"\xbf\
        \x7f\x62Da\x62ta\xff\x5f\x43hel\x42lo\xff\
        \x62At\xc1\x1b\x00\x00\x01\x9b\x76\xda\xa8\x7b\
        \x67Unknown\x9f\xa1\x61a\xc2\x41\x01\xf9\x3c\x00\xff\
        \x64Size\x18\x07\
        \x66Offset\x22\
        \x65Ratio\xfa\x3f\x00\x00\x00\
        \xff";
    assert_eq!(cbor(bytes), expected());
}

#[test]
fn a_timestamp_is_milliseconds_with_or_without_its_tag_and_seconds_as_a_float() {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct At {
        at: Option<Timestamp>,
    }
    let read = |tail: &[u8]| {
        let bytes = Bytes::from([&b"\xa1\x62At"[..], tail].concat());
        Encoding::Cbor11.decode::<At>(&bytes).map(|at| at.at.map(|at| at.datetime().timestamp_millis()))
    };
    assert_eq!(read(b"\xc1\x1b\x00\x00\x01\x9b\x76\xda\xa8\x7b").unwrap(), Some(1_767_225_600_123));
    assert_eq!(read(b"\x1b\x00\x00\x01\x9b\x76\xda\xa8\x7b").unwrap(), Some(1_767_225_600_123));
    assert_eq!(read(b"\xc1\xfb\x41\xda\x55\x6e\x40\x07\xdf\x3b").unwrap(), Some(1_767_225_600_123));
    assert_eq!(read(b"\xf6").unwrap(), None);
    assert!(read(b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    assert!(read(b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00").is_err(), "not a number");
    assert!(read(b"\x61a").is_err());

    let json = |text: &'static str| Encoding::Json11.decode::<At>(&Bytes::from_static(text.as_bytes())).map(|at| at.at);
    let moment = Some(DateTime::from_timestamp_millis(1_767_225_600_000).unwrap().into());
    assert_eq!(json(r#"{"At":1767225600}"#).unwrap(), moment);
    assert_eq!(json(r#"{"At":1.7672256E9}"#).unwrap(), moment);
    assert_eq!(json(r#"{"At":null}"#).unwrap(), None);
    assert_eq!(json("{}").unwrap(), None);
    assert!(json(r#"{"At":1e300}"#).is_err());
}

#[test]
fn a_blob_of_cbor_is_a_slice_of_the_request() {
    let put =
        Put { stream_name: "s".into(), records: vec![expected(), expected()], limit: None, tags: BTreeMap::new() };
    let body = Encoding::Cbor11.encode(&put).unwrap();
    let within = body.as_ptr_range();
    let read: Put = Encoding::Cbor11.decode(&body).unwrap();
    for record in read.records {
        assert!(within.contains(&record.data.as_ptr()), "copied");
        assert_eq!(record.data.into_bytes(), "hello");
    }
}

#[test]
fn shapes_come_from_maps_and_numbers_from_numbers() {
    for wrong in [&b"\x85\x01\x02\x03\x04\x05"[..], b"\x01", b"\xf6", b"", b"\xa0\xa0", b"\xa1\x64Data\x65hello"] {
        assert!(Encoding::Cbor11.decode::<Entry>(&Bytes::from_static(wrong)).is_err(), "{wrong:?}");
    }
    for wrong in ["[1,2,3,4,5]", "1", "null", "", "{}{}", r#"{"Data":[1]}"#] {
        assert!(Encoding::Json11.decode::<Entry>(&Bytes::from_static(wrong.as_bytes())).is_err(), "{wrong:?}");
    }
}
