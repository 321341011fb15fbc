//! What a file is, by its first bytes and its name.
//!
//! Invariant: pure and total; any bytes give an answer.

/// What a file's bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Parquet,
    Json,
    Text,
    /// Known, but not read yet, or not known; why in words.
    Unknown(&'static str),
}

const MAGICS: [(&[u8], &str); 8] = [
    (b"\x1f\x8b", "compressed with gzip, which the crawler does not read yet: store it plain"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd, which the crawler does not read yet: store it plain"),
    (b"BZh", "compressed with bzip2, which the crawler does not read yet: store it plain"),
    (b"PK\x03\x04", "a zip archive, which the crawler does not read yet: unpack it"),
    (b"ORC", "an ORC file, which the crawler does not read yet"),
    (b"Obj\x01", "an Avro file, which the crawler does not read yet"),
    (b"\xff\xfe", "UTF-16 text: store it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text: store it as UTF-8"),
];

/// Looks at the beginning of a file.
pub(super) fn classify(head: &[u8]) -> Shape {
    if head.starts_with(b"PAR1") {
        return Shape::Parquet;
    }
    if let Some((_, reason)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Shape::Unknown(reason);
    }
    if head.contains(&0) {
        return Shape::Unknown("binary data of no known format");
    }
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    match text.first() {
        None => Shape::Unknown("nothing but blanks"),
        Some(b'{') => Shape::Json,
        Some(b'[') => Shape::Unknown("a JSON array, which the crawler does not read yet: write one object per line"),
        Some(b'<') => Shape::Unknown("XML, which the crawler does not read yet"),
        Some(_) => Shape::Text,
    }
}
