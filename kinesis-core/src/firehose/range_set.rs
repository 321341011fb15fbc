//! A set of record indices of one shard, as runs.
//!
//! A record owns the indices from behind its predecessor in the shard up to its own, so that records which follow each
//! other are one run although indices have gaps.
//!
//! Stored as base64 over pairs of LEB128 numbers: how far behind the last run's end a run begins, and its length less 1.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

/// Disjoint runs of indices; no two touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct RangeSet {
    /// First to last index of each run.
    runs: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds the run `first..=last`.
    pub(super) fn insert(&mut self, first: u64, last: u64) {
        debug_assert!(first <= last, "a run is not empty");
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

    pub(super) fn contains(&self, index: u64) -> bool {
        self.runs.range(..=index).next_back().is_some_and(|(_, &last)| index <= last)
    }

    /// Takes out everything up to and including `index`.
    pub(super) fn remove_through(&mut self, index: u64) {
        let above = index.saturating_add(1);
        let kept = self.runs.split_off(&above);
        let cut = self.runs.last_key_value().map(|(_, &last)| last).filter(|&last| last > index);
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

    /// The runs, first to last index, rising.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().map(|(&first, &last)| (first, last))
    }
}

impl From<RangeSet> for String {
    fn from(set: RangeSet) -> Self {
        let mut bytes = Vec::new();
        let mut behind = 0;
        for (first, last) in set.iter() {
            write_number(first - behind, &mut bytes);
            write_number(last - first, &mut bytes);
            behind = last;
        }
        STANDARD_NO_PAD.encode(bytes)
    }
}

impl TryFrom<String> for RangeSet {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const DAMAGED: &str = "runs of records that do not decode";
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| DAMAGED)?;
        let mut rest = bytes.as_slice();
        let mut runs = BTreeMap::new();
        let mut behind = 0u64;
        while !rest.is_empty() {
            let gap = read_number(&mut rest).ok_or(DAMAGED)?;
            let length = read_number(&mut rest).ok_or(DAMAGED)?;
            let first = behind.checked_add(gap).ok_or(DAMAGED)?;
            let last = first.checked_add(length).ok_or(DAMAGED)?;
            let touches = !runs.is_empty() && gap < 2;
            if touches {
                return Err(DAMAGED);
            }
            runs.insert(first, last);
            behind = last;
        }
        Ok(Self { runs })
    }
}

fn write_number(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = (value & 0x7F).to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
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
                prop_assert_eq!(set.contains(index), model.contains(&index), "{}", index);
            }
            let ends: Vec<_> = set.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", ends);
            let text = String::from(set.clone());
            prop_assert_eq!(RangeSet::try_from(text).unwrap(), set);
        }

        #[test]
        fn any_text_decodes_or_is_refused(text in "[A-Za-z0-9+/]{0,40}") {
            if let Ok(set) = RangeSet::try_from(text) {
                prop_assert_eq!(RangeSet::try_from(String::from(set.clone())).unwrap(), set);
            }
        }
    }

    #[test]
    fn the_largest_index_is_a_member_like_any_other() {
        let mut set = RangeSet::default();
        set.insert(u64::MAX, u64::MAX);
        set.insert(u64::MAX - 1, u64::MAX - 1);
        assert_eq!(set.runs(), 1);
        assert_eq!(RangeSet::try_from(String::from(set.clone())).unwrap(), set);
        set.remove_through(u64::MAX);
        assert!(set.is_empty() || !set.contains(u64::MAX - 1));
    }
}
