//! What tables are called: after their folder or file, in Glue's alphabet.
//!
//! Invariant: a table that the catalog has at this place under one of its names keeps that name, whatever comes to lie
//! beside it; of two that would be called alike, the second gets a suffix made from its path.

use std::collections::BTreeSet;

use super::group::{Candidate, join};

/// The longest name a crawler gives, in characters; Glue truncates there too.
const NAME_CHARS_MAX: usize = 128;

/// A table's name, and why it is not the plain one.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) reason: Option<String>,
}

/// Names for tables, by their order. `location_of` tells where a table of the catalog lies.
pub(super) fn names<'a>(
    candidates: &[Candidate],
    target: &str,
    prefix: &str,
    location_of: impl Fn(&str) -> Option<&'a str>,
) -> Vec<Named> {
    let wanted: Vec<Wanted> = candidates.iter().map(|candidate| Wanted::of(candidate, target, prefix)).collect();
    let has = |name: &str, path: &str| location_of(name) == Some(path);
    let mut taken: BTreeSet<&str> =
        wanted.iter().filter(|wanted| has(&wanted.plain, &wanted.path)).map(|wanted| wanted.plain.as_str()).collect();
    wanted
        .iter()
        .map(|Wanted { plain, suffixed, path }| {
            let free = || location_of(plain).is_none() && !taken.contains(plain.as_str());
            if has(plain, path) || (!has(suffixed, path) && free()) {
                taken.insert(plain);
                return Named { name: plain.clone(), reason: None };
            }
            let reason = format!("named {suffixed}, since {plain} lies elsewhere");
            Named { name: suffixed.clone(), reason: Some(reason) }
        })
        .collect()
}

/// What a table may be called, and where it lies.
#[derive(Debug)]
struct Wanted {
    plain: String,
    suffixed: String,
    path: String,
}

impl Wanted {
    fn of(candidate: &Candidate, target: &str, prefix: &str) -> Self {
        let path = join(target, &candidate.root);
        let last = path.rsplit('/').next().unwrap_or_default();
        let stem = if candidate.is_file { last.split_once('.').map_or(last, |(stem, _)| stem) } else { last };
        let plain = clean(prefix, stem);
        Self { suffixed: suffixed(&plain, &path), plain, path }
    }
}

fn clean(prefix: &str, stem: &str) -> String {
    let lower = stem.to_lowercase();
    let cleaned = lower.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' });
    let name: String = prefix.to_lowercase().chars().chain(cleaned).take(NAME_CHARS_MAX).collect();
    if name.is_empty() { "table".to_owned() } else { name }
}

/// The name with eight characters that stand for the path.
fn suffixed(name: &str, path: &str) -> String {
    let start: String = name.chars().take(NAME_CHARS_MAX - 9).collect();
    format!("{start}_{:08x}", crc32c::crc32c(path.as_bytes()))
}
