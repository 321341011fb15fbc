//! Where in a shard a record stands, or a part of one that holds several.
//!
//! A place is the record's index with sixteen bits behind it for the part. Invariant: the parts of a record cover all
//! places of its index, each place once, so that a set of places says what is done of each record.

use crate::{Error, ErrorKind, Result};

const PART_BITS: u32 = 16;
/// Parts that one record may have.
pub(super) const PARTS_MAX: usize = 1 << PART_BITS;
const LAST_PART: u64 = (1 << PART_BITS) - 1;

/// Which part of its record something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: u16,
    /// Whether it is the record's last: the places behind it are its own too.
    pub(super) is_last: bool,
}

impl Part {
    /// A record that was not taken apart.
    pub(super) const WHOLE: Self = Self { number: 0, is_last: true };

    /// Its first place, in the record of this index.
    pub(super) fn first(self, index: u64) -> u64 {
        first(index) + u64::from(self.number)
    }

    /// Its last place, in the record of this index.
    pub(super) fn last(self, index: u64) -> u64 {
        if self.is_last { last(index) } else { self.first(index) }
    }
}

/// The first place of the record of this index.
pub(super) fn first(index: u64) -> u64 {
    index << PART_BITS
}

/// The last place of the record of this index.
pub(super) fn last(index: u64) -> u64 {
    first(index) | LAST_PART
}

/// The index of the record that has this place.
pub(super) fn index(place: u64) -> u64 {
    place >> PART_BITS
}

/// As much of a run of places as is whole records.
pub(super) fn whole(first: u64, last: u64) -> Option<(u64, u64)> {
    let first = first.checked_next_multiple_of(1 << PART_BITS)?;
    let last = last.checked_add(1)? & !LAST_PART;
    (first < last).then(|| (first, last - 1))
}

/// Refuses an index that has no places: 2^48 records of one journal, which no disk holds.
///
/// # Errors
///
/// `LimitExceeded`.
pub(super) fn check(index: u64) -> Result<()> {
    if index <= u64::MAX >> PART_BITS {
        return Ok(());
    }
    let message = format!("record {index} of a stream: a delivery stream numbers up to 2^48");
    Err(Error::new(ErrorKind::LimitExceeded, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_record_cover_its_places() {
        let parts = [(0, false), (1, false), (2, true)].map(|(number, is_last)| Part { number, is_last });
        let mut next = first(7);
        for part in parts {
            assert_eq!(part.first(7), next);
            next = part.last(7) + 1;
        }
        assert_eq!(next, first(8));
        assert_eq!((Part::WHOLE.first(7), Part::WHOLE.last(7)), (first(7), last(7)));
        assert_eq!((index(first(7)), index(last(7))), (7, 7));
        assert_eq!(whole(first(3) + 1, first(7)), Some((first(4), last(6))));
        assert_eq!((whole(first(3), last(3)), whole(first(3) + 1, last(3))), (Some((first(3), last(3))), None));
        assert!(check(1 << 47).is_ok() && check(1 << 48).is_err());
    }
}
