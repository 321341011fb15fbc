//! A set of places in one shard (see `place`), as runs.
//!
//! A record owns the places from behind its predecessor in the shard up to its own last, so that records which follow each
//! other are one run although indices have gaps.
//!
//! Stored as `.` and base64 over pairs of numbers: how far behind the last run's end a run begins, and its length. A number is
//! LEB128 of its double if that many whole records are meant, else of the double of its places and 1. Without the `.` they
//! are of format 1: indices, in LEB128, the distance from the last run's last and the length less 1.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use super::place::{self, PARTS_MAX};

/// What a stored set of places begins with.
const BY_PLACES: char = '.';
const PARTS: u128 = PARTS_MAX as u128;

/// Disjoint runs of indices; no two touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct RangeSet {
    /// First to last place of each run.
    runs: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds the run `first..=last`.
    pub(super) fn insert(&mut self, first: u64, last: u64) {
        debug_assert!(first <= last, "a run is not empty");
        // Mostly it lies behind all others, or on the last of them.
        match self.runs.last_entry() {
            Some(mut run) if first > *run.key() => {
                if run.get().saturating_add(1) >= first {
                    run.insert(last.max(*run.get()));
                } else {
                    self.runs.insert(first, last);
                }
                return;
            }
            _ => {}
        }
        let (mut first, mut last) = (first, last);
        // Only the run before `first` and those that begin within or right behind the new one can touch it.
        if let Some((&start, &end)) = self.runs.range(..first).next_back()
            && end.saturating_add(1) >= first
        {
            first = start;
            last = last.max(end);
        }
        while let Some((&start, &end)) = self.runs.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.runs.remove(&start);
        }
        self.runs.insert(first, last);
    }

    pub(super) fn insert_all(&mut self, other: &Self) {
        for (first, last) in other.iter() {
            self.insert(first, last);
        }
    }

    /// Whether it holds all of `first..=last`.
    pub(super) fn contains(&self, first: u64, last: u64) -> bool {
        self.runs.range(..=first).next_back().is_some_and(|(_, &end)| last <= end)
    }

    /// The set of which each run is what `change` makes of it, or gone.
    pub(super) fn map(&self, change: impl Fn(u64, u64) -> Option<(u64, u64)>) -> Self {
        let mut mapped = Self::default();
        for (first, last) in self.iter().filter_map(|(first, last)| change(first, last)) {
            mapped.insert(first, last);
        }
        mapped
    }

    /// Takes out everything up to and including `place`.
    pub(super) fn remove_through(&mut self, place: u64) {
        let above = place.saturating_add(1);
        let kept = self.runs.split_off(&above);
        let cut = self.runs.last_key_value().map(|(_, &last)| last).filter(|&last| last > place);
        self.runs = kept;
        if let Some(last) = cut {
            self.runs.insert(above, last);
        }
    }

    /// How many runs there are.
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs, first to last place, rising.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().map(|(&first, &last)| (first, last))
    }
}

impl From<RangeSet> for String {
    fn from(set: RangeSet) -> Self {
        let mut bytes = Vec::new();
        let mut behind = 0;
        for (first, last) in set.iter() {
            let (first, end) = (u128::from(first), u128::from(last) + 1);
            write_number(first - behind, &mut bytes);
            write_number(end - first, &mut bytes);
            behind = end;
        }
        format!("{BY_PLACES}{}", STANDARD_NO_PAD.encode(bytes))
    }
}

impl TryFrom<String> for RangeSet {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let runs = match text.strip_prefix(BY_PLACES) {
            Some(text) => read(text, read_number, 0),
            None => read(&text, read_leb128, 1).and_then(|runs| {
                let places = |(first, last)| {
                    place::check(last).ok()?;
                    Some((place::first(first), place::last(last)))
                };
                runs.into_iter().map(places).collect()
            }),
        };
        runs.map(|runs| Self { runs }).ok_or("runs of records that do not decode")
    }
}

/// The runs in `text`; None if that is damaged. The numbers tell of a run how far it begins behind the end of the one
/// before, and its length, each less `less`.
fn read(text: &str, number: impl Fn(&mut &[u8]) -> Option<u128>, less: u128) -> Option<BTreeMap<u64, u64>> {
    let bytes = STANDARD_NO_PAD.decode(text).ok()?;
    let mut rest = bytes.as_slice();
    let mut runs = BTreeMap::new();
    let mut behind = 0;
    while !rest.is_empty() {
        let gap = number(&mut rest)?.checked_sub(if runs.is_empty() { 0 } else { less })?;
        let length = number(&mut rest)?.checked_add(less)?;
        let first = u64::try_from(gap.checked_add(behind)?).ok()?;
        behind = u128::from(first).checked_add(length)?;
        let last = u64::try_from(behind.checked_sub(1)?).ok()?;
        if length == 0 || (gap == 0 && !runs.is_empty()) {
            return None;
        }
        runs.insert(first, last);
    }
    Some(runs)
}

/// Numbers that are whole records are by far the most, and take two bytes less.
fn write_number(value: u128, out: &mut Vec<u8>) {
    let mut value = if value.is_multiple_of(PARTS) { (value / PARTS) << 1 } else { (value << 1) | 1 };
    loop {
        let low = (value & 0x7F).to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn read_number(rest: &mut &[u8]) -> Option<u128> {
    let value = read_leb128(rest)?;
    if value & 1 == 1 { Some(value >> 1) } else { (value >> 1).checked_mul(PARTS) }
}

fn read_leb128(rest: &mut &[u8]) -> Option<u128> {
    let mut value = 0;
    // No number that is written has more than 66 bits.
    for shift in (0..70).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u128::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_without_places_is_refused() {
        // Found by the property below: of format 1, with an index past 2^48.
        assert!(RangeSet::try_from("aICAA/2a/+CA+L0A+gCAA40aA++0g++00Q++A/40".to_owned()).is_err());
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_its_members(
            runs in prop::collection::vec((0u64..200, 0u64..10), 0..40), through in prop::option::of(0u64..220)
        ) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for (first, length) in runs {
                set.insert(first, first + length);
                model.extend(first..=first + length);
            }
            if let Some(through) = through {
                set.remove_through(through);
                model.retain(|&index| index > through);
            }
            for index in 0..230 {
                prop_assert_eq!(set.contains(index, index), model.contains(&index), "{}", index);
                let both = model.contains(&index) && model.contains(&(index + 1));
                prop_assert_eq!(set.contains(index, index + 1), both, "{}", index);
            }
            let ends: Vec<_> = set.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", ends);
            let text = String::from(set.clone());
            prop_assert_eq!(RangeSet::try_from(text).unwrap(), set);
        }

        #[test]
        fn any_text_decodes_or_is_refused(text in "[.]?[A-Za-z0-9+/]{0,40}") {
            if let Ok(set) = RangeSet::try_from(text) {
                prop_assert_eq!(RangeSet::try_from(String::from(set.clone())).unwrap(), set);
            }
        }
    }

    #[test]
    fn sets_of_format_1_are_read_by_places() {
        // 5 to 9, 12 to 12.
        let set = RangeSet::try_from(STANDARD_NO_PAD.encode([5, 4, 3, 0])).unwrap();
        let runs: Vec<_> = set.iter().collect();
        assert_eq!(runs, [(place::first(5), place::last(9)), (place::first(12), place::last(12))]);
        assert!(RangeSet::try_from(STANDARD_NO_PAD.encode([5, 4, 1, 0])).is_err(), "they touch");
    }

    #[test]
    fn whole_records_take_few_bytes() {
        let mut set = RangeSet::default();
        set.insert(place::first(5), place::last(9));
        set.insert(place::first(12), place::last(12));
        assert_eq!(String::from(set), format!(".{}", STANDARD_NO_PAD.encode([10, 10, 4, 2])));
    }

    #[test]
    fn the_largest_index_is_a_member_like_any_other() {
        let mut set = RangeSet::default();
        set.insert(u64::MAX, u64::MAX);
        set.insert(u64::MAX - 1, u64::MAX - 1);
        assert_eq!(set.runs(), 1);
        assert_eq!(RangeSet::try_from(String::from(set.clone())).unwrap(), set);
        set.remove_through(u64::MAX);
        assert!(set.is_empty() || !set.contains(u64::MAX - 1, u64::MAX - 1));
    }
}
