//! Reads a file as far as needed to know what it holds: a Parquet file's footer, all of a text file up to a bound.
//!
//! Invariant: what is wrong with a file's bytes is a profile that says so; an error means that the store failed.

use std::sync::Arc;

use object_store::{ObjectStore, ObjectStoreExt};
use table_core::infer::ObservedFields;
use table_core::parquet_file::read_footer;
use table_core::{ErrorKind, HiveType};

use super::classify::{Shape, classify};
use super::delimited;
use super::listing::Listed;
use super::profile::{Content, Profile};
use crate::{Error, Result};

/// So much of a text file is read; of a longer one, its beginning.
pub const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is read of a file to see what it is.
const HEAD_BYTES: usize = 64 * 1024;

pub(super) async fn profile(store: Arc<dyn ObjectStore>, file: &Listed) -> Result<Profile> {
    if file.relative.to_ascii_lowercase().ends_with(".parquet") {
        return parquet(store, file).await;
    }
    let wanted = file.object.size.min(TEXT_BYTES_MAX);
    let bytes = store.get_range(&file.object.location, 0..wanted).await?;
    if classify(bytes.get(..HEAD_BYTES).unwrap_or(&bytes)) == Shape::Parquet {
        return parquet(store, file).await;
    }
    let (source, cut) = (file.relative.clone(), wanted < file.object.size);
    let parsed = tokio::task::spawn_blocking(move || text(&bytes, &source, cut)).await;
    parsed.map_err(|error| {
        Error::new(ErrorKind::Internal, format!("reading \"{}\" failed", file.relative)).with_source(error)
    })
}

async fn parquet(store: Arc<dyn ObjectStore>, file: &Listed) -> Result<Profile> {
    let footer = match read_footer(store.as_ref(), &file.object).await {
        Ok(footer) => footer,
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::LimitExceeded) => {
            return Ok(Profile::unknown(format!("{error:?}")));
        }
        Err(error) => return Err(error.into()),
    };
    let mut columns = ObservedFields::default();
    columns.rows_of(&file.relative, footer.rows);
    for (index, field) in (0_u32..).zip(footer.schema.fields()) {
        match HiveType::from_arrow(field.data_type()) {
            Ok(hive_type) => {
                columns.field(field.name(), index, &file.relative).declared(&hive_type, footer.rows, &file.relative);
            }
            Err(error) => return Ok(Profile::unknown(format!("column \"{}\": {}", field.name(), error.message()))),
        }
    }
    Ok(Profile::new(Content::Parquet(columns)))
}

fn text(bytes: &[u8], source: &str, cut: bool) -> Profile {
    let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
        // A cut's last line is not whole.
        Some(end) if cut => bytes.get(..=end).unwrap_or(bytes),
        _ => bytes,
    };
    let head = whole.get(..HEAD_BYTES).unwrap_or(whole);
    let mut profile = match classify(head) {
        Shape::Json => json(whole, source),
        Shape::Text => delimited::profile(whole, source),
        Shape::Unknown(reason) => Profile::unknown(reason),
        Shape::Parquet => Profile::unknown("a Parquet file that is read elsewhere"),
    };
    if cut {
        profile.cut = true;
        profile.notes.push(format!("only the first {} MiB were read", TEXT_BYTES_MAX >> 20));
    }
    profile
}

fn json(bytes: &[u8], source: &str) -> Profile {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut columns = ObservedFields::default();
    let (mut bad, mut first_bad) = (0_u64, None);
    for (number, line) in (1_u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut row = ObservedFields::default();
        let outcome = match std::str::from_utf8(line) {
            Ok(text) => row.json(text, source).map_err(|error| error.message().to_owned()),
            Err(error) => Err(format!("the row is no UTF-8: {error}")),
        };
        match outcome {
            Ok(()) => columns.merge(row),
            Err(reason) => {
                bad += 1;
                first_bad.get_or_insert(format!("line {number}: {reason}"));
            }
        }
    }
    let first_bad = first_bad.unwrap_or_default();
    if columns.rows() == 0 || bad > columns.rows() {
        return Profile::unknown(format!("not one JSON object per line ({first_bad})"));
    }
    let mut profile = Profile::new(Content::Json(columns));
    if bad > 0 {
        profile.notes.push(format!("{bad} lines are no JSON objects and will be rejected when read ({first_bad})"));
    }
    profile
}
