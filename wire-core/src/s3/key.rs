//! Which object of the store a bucket and a key name.
//!
//! Invariant: every key has one path and is found again from it. Nearly every key is its own path: what a client puts at
//! `s3://bucket/key` lies at `bucket/key`. Only segments that no path can hold are written otherwise, under names that begin
//! with a dot, which crawlers and queries pass over.

use std::borrow::Cow;

use object_store::path::Path;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use s3s::{S3Result, s3_error};

/// What segments of another form begin with.
const MARK: &str = ".%";

const EMPTY: &str = ".%empty";
const DOT: &str = ".%dot";
const DOT_DOT: &str = ".%dotdot";
/// Followed by the segment, percent-encoded.
const ENCODED: &str = ".%x";

const ESCAPED: &AsciiSet = &CONTROLS.add(b'%').add(b'#');

/// The path of a key.
pub(super) fn path(bucket: &str, key: &str) -> S3Result<Path> {
    Path::parse(format!("{bucket}/{}", encode(key)))
        .map_err(|error| s3_error!(error, InvalidURI, "the key cannot be an object of this store"))
}

/// The path below which keys lie that begin with `prefix`, which is empty or ends with a slash.
pub(super) fn directory(bucket: &str, prefix: &str) -> S3Result<Path> {
    match prefix.strip_suffix('/') {
        Some(key) => path(bucket, key),
        None => Ok(Path::from(bucket)),
    }
}

/// A key, or a part of one that ends where a segment ends, as it is in paths.
pub(super) fn encode(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for (at, segment) in key.split('/').enumerate() {
        if at > 0 {
            encoded.push('/');
        }
        encoded.push_str(&encode_segment(segment));
    }
    encoded
}

fn encode_segment(segment: &str) -> Cow<'_, str> {
    match segment {
        "" => EMPTY.into(),
        "." => DOT.into(),
        ".." => DOT_DOT.into(),
        _ if segment.starts_with(MARK) || is_refused(segment) => {
            format!("{ENCODED}{}", utf8_percent_encode(segment, ESCAPED)).into()
        }
        _ => segment.into(),
    }
}

/// What a path may not hold: control characters, and names that local stores keep for objects being written (`name#1`).
fn is_refused(segment: &str) -> bool {
    let is_staged = segment
        .rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    is_staged || segment.bytes().any(|byte| byte.is_ascii_control())
}

/// The segment of a key that a segment of a path stands for.
pub(super) fn decode_segment(segment: &str) -> Cow<'_, str> {
    match segment {
        EMPTY => "".into(),
        DOT => ".".into(),
        DOT_DOT => "..".into(),
        _ => match segment.strip_prefix(ENCODED) {
            Some(encoded) => percent_decode_str(encoded).decode_utf8_lossy(),
            None => segment.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(path: &str) -> String {
        path.split('/').map(decode_segment).collect::<Vec<_>>().join("/")
    }

    #[test]
    fn most_keys_are_their_own_path() {
        for key in
            ["a", "a/b.csv", "year=2024/day=01/x y+z&ü.parquet", ".hidden/_x", "a#b", "a%20b", "a..b/...", "~{}[]"]
        {
            assert_eq!(encode(key), key);
        }
        assert_eq!(encode("folder/"), "folder/.%empty");
        assert_eq!(encode("/a//b"), ".%empty/a/.%empty/b");
        assert_eq!(encode("a/../b#12"), "a/.%dotdot/.%xb%2312");
    }

    proptest! {
        #[test]
        fn a_key_is_found_again(key in r"([a-z%#./\x00-\x1f]|\.%|empty|dot|x|/|#1|ü){1,12}") {
            let path = path("bucket", &key).unwrap();
            prop_assert_eq!(decode(path.as_ref().strip_prefix("bucket/").unwrap()), key);
        }
    }
}
