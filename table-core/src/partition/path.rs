//! Partition paths as Hive writes them: `month=1/day=2`, percent-encoded, NULL as `__HIVE_DEFAULT_PARTITION__`.
//!
//! Invariant: `parse(&encode(keys, values))` gives the keys and values back, whatever they hold.

use std::borrow::Cow;
use std::fmt::Write;

/// How a path spells NULL.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The folder of one partition, without a slash at either end: `key=value` for each pair.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let mut path = String::new();
    for (key, value) in pairs {
        if !path.is_empty() {
            path.push('/');
        }
        escape(key, &mut path);
        path.push('=');
        match value {
            None => path.push_str(NULL_PARTITION),
            // The text itself, spelt so that it is not read as NULL.
            Some(NULL_PARTITION) => write_escaped('_', &mut path, &NULL_PARTITION[1..]),
            Some(text) => escape(text, &mut path),
        }
    }
    path
}

/// Keys and values of the `key=value` folders of a path, in order; `None` if some folder is not of that form.
#[must_use]
pub fn parse(path: &str) -> Option<Vec<(String, Option<String>)>> {
    let trimmed = path.trim_matches('/');
    if trimmed.is_empty() {
        return Some(Vec::new());
    }
    trimmed.split('/').map(parse_folder).collect()
}

/// Key and value of one folder name, or `None` if it is not `key=value`.
#[must_use]
pub fn parse_folder(folder: &str) -> Option<(String, Option<String>)> {
    let (key, value) = folder.split_once('=')?;
    if key.is_empty() {
        return None;
    }
    let value = (value != NULL_PARTITION).then(|| decode(value).into_owned());
    Some((decode(key).into_owned(), value))
}

/// The text with `%XX` replaced by the byte it stands for; text that does not decode to UTF-8 is left as it is.
#[must_use]
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1).and_then(hex), bytes.get(at + 2).and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high * 16 + low);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn hex(byte: &u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn escape(text: &str, path: &mut String) {
    for c in text.chars() {
        // Hive's list: what a file system, a URL or this grammar gives a meaning to.
        let special = matches!(
            c,
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '}' | '[' | ']' | '^' | '\x7f'
        );
        if special || c < ' ' { write_escaped(c, path, "") } else { path.push(c) }
    }
}

fn write_escaped(ascii: char, path: &mut String, then: &str) {
    // Writing to a `String` cannot fail.
    let _ = write!(path, "%{:02X}{then}", u32::from(ascii));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_become_folders_as_hive_writes_them() {
        let path = encode([("month", Some("1")), ("at", Some("10:30/x=y")), ("city", None)]);
        assert_eq!(path, "month=1/at=10%3A30%2Fx%3Dy/city=__HIVE_DEFAULT_PARTITION__");
    }

    proptest! {
        #[test]
        fn what_is_encoded_parses_back(pairs in prop::collection::vec(("[^\\x00-\\x1f]{1,8}", prop::option::of(any::<String>())), 1..5)) {
            let path = encode(pairs.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
            prop_assert_eq!(parse(&path), Some(pairs));
        }

        #[test]
        fn what_is_encoded_is_a_path_of_an_object_store(value in any::<String>()) {
            let path = encode([("k", Some(value.as_str()))]);
            prop_assert_eq!(object_store::path::Path::parse(&path).unwrap().to_string(), path);
        }

        #[test]
        fn any_text_parses_without_panic(path in any::<String>()) {
            let _ = parse(&path);
        }
    }

    #[test]
    fn the_text_of_null_is_kept_apart_from_null() {
        let path = encode([("k", Some(NULL_PARTITION))]);
        assert_eq!(parse(&path), Some(vec![("k".to_owned(), Some(NULL_PARTITION.to_owned()))]));
    }
}
