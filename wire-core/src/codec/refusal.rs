//! Why an input was refused, in the words of an AWS exception.
//!
//! Invariant: this runs only after a decoder has failed, so it may read the input a second time to say where.

use serde_path_to_error::{Path, Segment};

use crate::validation::shortened;
use crate::{Validation, WireError};

/// The exception for what went wrong at `path`.
///
/// serde has no typed error for an absent member; its text is the same in every format.
pub(super) fn refusal(path: &Path, reason: &str) -> WireError {
    let absent = reason.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
    let at = shortened(member_path(path));
    match absent {
        Some(name) => {
            let name = lower_first(name);
            let path = if at.is_empty() { name } else { format!("{at}.{name}") };
            Validation::new()
                .require(&path, None::<&()>)
                .finish()
                .err()
                .unwrap_or_else(|| WireError::serialization(reason))
        }
        None if at.is_empty() => WireError::serialization(shortened(reason.to_owned())),
        None => WireError::serialization(format!("'{at}': {}", shortened(reason.to_owned()))),
    }
}

/// `Records[0].Data` as AWS writes it: `records.1.member.data`.
fn member_path(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        let part = match segment {
            Segment::Seq { index } => format!("{}.member", index.saturating_add(1)),
            Segment::Map { key } => lower_first(key),
            Segment::Enum { variant } => lower_first(variant),
            Segment::Unknown => continue,
        };
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&part);
    }
    text
}

/// `StreamName` as AWS names it in messages: `streamName`.
fn lower_first(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
