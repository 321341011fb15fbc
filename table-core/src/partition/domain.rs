//! What a filter leaves of one column: a set of values, as sorted disjoint ranges, with or without NULL.
//!
//! Invariant: ranges are non-empty, disjoint, sorted, and no two touch, so that equal sets are equal domains. Bounds are
//! compared as written: over integers `(1, 2)` is empty but is kept, which only costs a search that finds nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::Scalar;

type Range = (Bound<Scalar>, Bound<Scalar>);

/// A set of values of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    ranges: Vec<Range>,
    null: bool,
}

impl Domain {
    /// Every value, and NULL.
    #[must_use]
    pub fn all() -> Self {
        Self { ranges: vec![(Bound::Unbounded, Bound::Unbounded)], null: true }
    }

    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { ranges: Vec::new(), null: false }
    }

    /// NULL alone.
    #[must_use]
    pub fn null() -> Self {
        Self { ranges: Vec::new(), null: true }
    }

    /// Every value but NULL.
    #[must_use]
    pub fn not_null() -> Self {
        Self { null: false, ..Self::all() }
    }

    /// One value.
    pub fn equal(value: impl Into<Scalar>) -> Self {
        Self::one_of([value])
    }

    /// Any of these values.
    pub fn one_of<V: Into<Scalar>>(values: impl IntoIterator<Item = V>) -> Self {
        let points =
            values.into_iter().map(Into::into).map(|value| (Bound::Included(value.clone()), Bound::Included(value)));
        Self { ranges: merged(points.collect()), null: false }
    }

    /// What lies between two bounds, without NULL.
    #[must_use]
    pub fn range(low: Bound<Scalar>, high: Bound<Scalar>) -> Self {
        Self { ranges: merged(vec![(low, high)]), null: false }
    }

    /// Text that starts with a prefix, as `like 'p%'`.
    #[must_use]
    pub fn prefix(prefix: &str) -> Self {
        let mut after: Vec<char> = prefix.chars().collect();
        let high = loop {
            let Some(last) = after.pop() else { break Bound::Unbounded };
            // The next character, past the surrogates, which no text holds.
            let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
            if let Some(next) = next {
                after.push(next);
                break Bound::Excluded(Scalar::Text(after.into_iter().collect()));
            }
        };
        Self::range(Bound::Included(prefix.into()), high)
    }

    /// Whether it holds every value and NULL.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.null && matches!(self.ranges.as_slice(), [(Bound::Unbounded, Bound::Unbounded)])
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        !self.null && self.ranges.is_empty()
    }

    /// Whether it holds NULL.
    #[must_use]
    pub fn has_null(&self) -> bool {
        self.null
    }

    /// The ranges of values, sorted and disjoint.
    #[must_use]
    pub fn ranges(&self) -> &[(Bound<Scalar>, Bound<Scalar>)] {
        &self.ranges
    }

    /// Whether it holds a value; `None` is NULL.
    #[must_use]
    pub fn contains(&self, value: Option<&Scalar>) -> bool {
        let Some(value) = value else { return self.null };
        let after = self.ranges.partition_point(|(low, _)| !starts_after(low, value));
        after.checked_sub(1).and_then(|index| self.ranges.get(index)).is_some_and(|(_, high)| !ends_before(high, value))
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        let mut ranges = Vec::new();
        while let (Some((low_a, high_a)), Some((low_b, high_b))) = (left.peek(), right.peek()) {
            let low = if compare_low(low_a, low_b).is_ge() { low_a } else { low_b };
            let first_ends = compare_high(high_a, high_b).is_le();
            let high = if first_ends { high_a } else { high_b };
            if !is_empty(low, high) {
                ranges.push((low.clone(), high.clone()));
            }
            if first_ends {
                left.next()
            } else {
                right.next()
            };
        }
        Self { ranges, null: self.null && other.null }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let ranges = self.ranges.iter().chain(&other.ranges).cloned().collect();
        Self { ranges: merged(ranges), null: self.null || other.null }
    }

    /// What is not in it, NULL included when it is not. SQL's `not` of a comparison also leaves out NULL: intersect with
    /// [`not_null`](Self::not_null).
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        let mut low = Bound::Unbounded;
        for (start, end) in &self.ranges {
            let high = flip(start);
            if !matches!(high, Bound::Unbounded) {
                ranges.push((low, high));
            }
            low = flip(end);
            if matches!(low, Bound::Unbounded) {
                return Self { ranges, null: !self.null };
            }
        }
        ranges.push((low, Bound::Unbounded));
        Self { ranges, null: !self.null }
    }
}

/// The bound on the other side of the same value.
fn flip(bound: &Bound<Scalar>) -> Bound<Scalar> {
    match bound {
        Bound::Included(value) => Bound::Excluded(value.clone()),
        Bound::Excluded(value) => Bound::Included(value.clone()),
        Bound::Unbounded => Bound::Unbounded,
    }
}

fn starts_after(low: &Bound<Scalar>, value: &Scalar) -> bool {
    match low {
        Bound::Included(low) => low > value,
        Bound::Excluded(low) => low >= value,
        Bound::Unbounded => false,
    }
}

fn ends_before(high: &Bound<Scalar>, value: &Scalar) -> bool {
    match high {
        Bound::Included(high) => high < value,
        Bound::Excluded(high) => high <= value,
        Bound::Unbounded => false,
    }
}

fn is_empty(low: &Bound<Scalar>, high: &Bound<Scalar>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high))
        | (Bound::Excluded(low), Bound::Included(high)) => low >= high,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

fn compare_low(a: &Bound<Scalar>, b: &Bound<Scalar>) -> Ordering {
    compare(a, b, Ordering::Less)
}

fn compare_high(a: &Bound<Scalar>, b: &Bound<Scalar>) -> Ordering {
    compare(a, b, Ordering::Greater)
}

/// Orders bounds of one side; `unbounded` says where no bound stands, and of one value where the included bound stands.
fn compare(a: &Bound<Scalar>, b: &Bound<Scalar>, unbounded: Ordering) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => unbounded,
        (_, Bound::Unbounded) => unbounded.reverse(),
        (Bound::Included(a), Bound::Excluded(b)) => a.cmp(b).then(unbounded),
        (Bound::Excluded(a), Bound::Included(b)) => a.cmp(b).then(unbounded.reverse()),
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => a.cmp(b),
    }
}

/// Sorted, non-empty, and joined where they overlap or touch.
fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.retain(|(low, high)| !is_empty(low, high));
    ranges.sort_by(|a, b| compare_low(&a.0, &b.0));
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match joined.last_mut() {
            Some((_, end)) if touches(end, &low) => {
                if compare_high(&high, end).is_gt() {
                    *end = high;
                }
            }
            _ => joined.push((low, high)),
        }
    }
    joined
}

/// Whether a range that starts at `low` leaves no gap to one that ends at `end`.
fn touches(end: &Bound<Scalar>, low: &Bound<Scalar>) -> bool {
    match (end, low) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Excluded(end), Bound::Excluded(low)) => low < end,
        (Bound::Included(end) | Bound::Excluded(end), Bound::Included(low))
        | (Bound::Included(end), Bound::Excluded(low)) => low <= end,
    }
}

/// A domain for each column that a filter constrains. Column names are compared in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains(BTreeMap<String, Domain>);

impl Domains {
    /// No constraint.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// These and, for one column, also this constraint.
    #[must_use]
    pub fn with(mut self, column: &str, domain: Domain) -> Self {
        let column = column.to_lowercase();
        let narrowed = match self.0.get(&column) {
            Some(known) => known.intersect(&domain),
            None => domain,
        };
        self.0.insert(column, narrowed);
        self
    }

    /// Whether no row can pass.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.values().any(Domain::is_none)
    }

    /// What is left of a column; `None` if it is not constrained.
    #[must_use]
    pub fn domain(&self, column: &str) -> Option<&Domain> {
        self.0.get(column)
    }

    /// Columns and their domains, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Domain)> {
        self.0.iter().map(|(column, domain)| (column.as_str(), domain))
    }
}

impl<S: AsRef<str>> FromIterator<(S, Domain)> for Domains {
    fn from_iter<I: IntoIterator<Item = (S, Domain)>>(pairs: I) -> Self {
        pairs.into_iter().fold(Self::all(), |domains, (column, domain)| domains.with(column.as_ref(), domain))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound() -> impl Strategy<Value = Bound<Scalar>> {
        prop_oneof![
            Just(Bound::Unbounded),
            (0_i64..12).prop_map(|v| Bound::Included(Scalar::Int(v))),
            (0_i64..12).prop_map(|v| Bound::Excluded(Scalar::Int(v))),
        ]
    }

    fn domain() -> impl Strategy<Value = Domain> {
        (prop::collection::vec((bound(), bound()), 0..4), any::<bool>()).prop_map(|(ranges, null)| {
            let start = if null { Domain::null() } else { Domain::none() };
            ranges.into_iter().fold(start, |sum, (low, high)| sum.union(&Domain::range(low, high)))
        })
    }

    proptest! {
        #[test]
        fn set_algebra_holds_for_every_value(a in domain(), b in domain(), value in prop::option::of(-1_i64..13)) {
            let value = value.map(Scalar::Int);
            let holds = |domain: &Domain| domain.contains(value.as_ref());
            prop_assert_eq!(holds(&a.intersect(&b)), holds(&a) && holds(&b));
            prop_assert_eq!(holds(&a.union(&b)), holds(&a) || holds(&b));
            prop_assert_eq!(holds(&a.complement()), !holds(&a));
            prop_assert_eq!(a.complement().complement(), a);
        }

        #[test]
        fn a_prefix_holds_exactly_what_starts_with_it(prefix in "[a-c\u{D7FF}\u{10FFFF}]{0,3}", text in "[a-d\u{D7FF}\u{E000}\u{10FFFF}]{0,4}") {
            prop_assert_eq!(Domain::prefix(&prefix).contains(Some(&Scalar::Text(text.clone()))), text.starts_with(&prefix));
        }
    }
}
