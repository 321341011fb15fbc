//! Whatever bytes a decoder is given: it neither panics nor allocates out of proportion, and what it reads it can write again.

use std::collections::BTreeMap;

use allocation_counter::measure;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use testkit::seeds::{self, Violation};
use wire_core::{Blob, Encoding, Timestamp};

/// A shape with everything that AWS's shapes have.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    stream_name: Option<String>,
    #[serde(default)]
    records: Vec<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    limit: Option<i64>,
    count: Option<u16>,
    ratio: Option<f64>,
    exact: Option<bool>,
    mode: Option<Mode>,
    #[serde(default)]
    tags: BTreeMap<String, Option<String>>,
    nested: Option<Box<Shape>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    data: Blob,
    partition_key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    Provisioned,
    OnDemand,
}

fn sample(random: &mut SmallRng, depth: u32) -> Shape {
    let text = |random: &mut SmallRng| {
        let length = random.random_range(0..24);
        (0..length).map(|_| *['a', '"', '\\', 'ü', '語', '\n', '\0'].choose(random).unwrap()).collect::<String>()
    };
    let record = |random: &mut SmallRng| {
        let data: Vec<u8> = (0..random.random_range(0..40)).map(|_| random.random()).collect();
        Record { data: data.into(), partition_key: text(random) }
    };
    Shape {
        stream_name: random.random_bool(0.8).then(|| text(random)),
        records: (0..random.random_range(0..5)).map(|_| record(random)).collect(),
        at: random.random_bool(0.5).then(|| {
            let milliseconds = random.random_range(-4_000_000_000_000..4_000_000_000_000);
            chrono::DateTime::from_timestamp_millis(milliseconds).unwrap().into()
        }),
        limit: random.random_bool(0.5).then(|| random.random()),
        count: random.random_bool(0.5).then(|| random.random()),
        ratio: random.random_bool(0.5).then(|| random.random_range(-1e9..1e9)),
        exact: random.random_bool(0.5).then(|| random.random()),
        mode: random.random_bool(0.5).then(|| if random.random() { Mode::Provisioned } else { Mode::OnDemand }),
        tags: (0..random.random_range(0..4))
            .map(|_| (text(random), random.random_bool(0.5).then(|| text(random))))
            .collect(),
        nested: (depth > 0 && random.random_bool(0.3)).then(|| Box::new(sample(random, depth - 1))),
    }
}

/// Bytes, mostly of a kind that gets far into a decoder.
fn input(random: &mut SmallRng, encoding: Encoding) -> Vec<u8> {
    if random.random_bool(0.3) {
        // CBOR heads are dense: any byte begins some item.
        return (0..random.random_range(0..200)).map(|_| random.random()).collect();
    }
    let shape = sample(random, 2);
    let mut bytes = encoding.encode(&shape).unwrap().to_vec();
    for _ in 0..random.random_range(0..6) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes.insert(at, *OPENERS.choose(random).unwrap()),
            3 => bytes.truncate(at.max(1)),
            _ => drop(bytes.drain(at..(at + 4).min(bytes.len()))),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Heads that open something, in either encoding.
const OPENERS: [u8; 10] = [0x9f, 0xbf, 0x5f, 0x7f, 0xff, 0xc1, 0x9b, b'[', b'{', b'"'];

const INPUTS_A_SEED: u32 = 2_000;

fn check(encoding: Encoding) {
    let counts = seeds::check_all(0..60, |seed| -> Result<(u32, u32), Violation> {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut read = 0;
        for _ in 0..INPUTS_A_SEED {
            let bytes = Bytes::from(input(&mut random, encoding));
            let mut outcome = None;
            let measured = measure(|| outcome = Some(encoding.decode::<Shape>(&bytes)));
            let bound = 4 * bytes.len() as u64 + (64 << 10);
            if measured.bytes_max > bound {
                return Err(format!("{} bytes allocated for {} of input: {bytes:?}", measured.bytes_max, bytes.len()));
            }
            if let Some(Ok(shape)) = outcome {
                read += 1;
                let again = encoding.encode(&shape).unwrap();
                let shape_again: Shape = encoding.decode(&again).map_err(|error| format!("{error} of {again:?}"))?;
                // NaN is not itself.
                if format!("{shape:?}") != format!("{shape_again:?}") {
                    return Err(format!("{shape:?} is written and read as {shape_again:?}"));
                }
            }
        }
        Ok((INPUTS_A_SEED, read))
    });
    let (inputs, read) = counts.iter().fold((0, 0), |(inputs, read), count| (inputs + count.0, read + count.1));
    assert!(counts.len() < 60 || (inputs >= 100_000 && read > 10_000), "{inputs} inputs, {read} read");
}

#[test]
fn json_survives_any_bytes() {
    check(Encoding::Json11);
}

#[test]
fn cbor_survives_any_bytes() {
    check(Encoding::Cbor11);
}

#[test]
fn cbor_that_promises_much_allocates_little() {
    let many = |head: u8| [&[0xa1, 0x67], &b"Records"[..], &[head], &u64::MAX.to_be_bytes()[..]].concat();
    let inputs = [
        ("an array of 2^64 records", many(0x9b)),
        ("a blob of 2^64 bytes", many(0x5b)),
        ("a map of 2^64 entries", many(0xbb)),
        ("a text of 2^64 bytes", many(0x7b)),
        ("arrays in arrays", [&[0xa1, 0x61, b'x'][..], &[0x81; 100_000]].concat()),
        ("tags of tags", [&[0xa1, 0x61, b'x'][..], &[0xc1; 100_000]].concat()),
        ("tags of tags of a member", [&[0xa1, 0x65], &b"Limit"[..], &[0xc1; 100_000], &[0x01]].concat()),
        ("open arrays in open arrays", [&[0xa1, 0x61, b'x'][..], &[0x9f; 100_000]].concat()),
        ("shapes in shapes", b"\xa1\x66Nested".repeat(10_000)),
    ];
    assert!(measure(|| drop(Vec::<u8>::with_capacity(64 << 10))).bytes_max >= 64 << 10, "the measure measures");
    for (name, bytes) in inputs {
        let bytes = Bytes::from(bytes);
        let mut outcome = None;
        let measured = measure(|| outcome = Some(Encoding::Cbor11.decode::<Shape>(&bytes)));
        assert!(measured.bytes_max < 64 << 10, "{name}: {measured:?}");
        let read = outcome.unwrap();
        assert!(read.is_err() || name == "tags of tags of a member", "{name}: {read:?}");
    }
}

#[test]
fn json_nested_without_end_is_refused() {
    for piece in [r#"{"Nested":"#, r#"{"x":["#] {
        assert!(Encoding::Json11.decode::<Shape>(&piece.repeat(100_000).into()).is_err());
    }
}
