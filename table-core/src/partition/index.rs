//! The partition index: columnar, dictionary-encoded, immutable; a change gives a new index that shares what did not change.
//!
//! Invariant: a partition is live in exactly one run. A run is never changed: what a later change replaces or drops is
//! listed as dead beside it, and runs are merged when they grow alike, so that a change costs what it touches, amortised.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::{Bound, Range};
use std::sync::Arc;

use durable_core::ErrorKind;

use super::run::{Run, entry};
use super::{Domain, Domains, PartitionDef, PartitionValues, Scalar, Statistics};
use crate::{Column, Error, HiveType, Result};

/// The most partitions of one table.
pub const PARTITIONS_MAX: usize = 100_000_000;

/// All partitions of a table at one moment. Cheap to clone, safe to share.
#[derive(Clone, Debug)]
pub struct PartitionIndex {
    keys: Arc<[Column]>,
    runs: Vec<LiveRun>,
}

#[derive(Clone, Debug)]
struct LiveRun {
    run: Arc<Run>,
    /// Rows that are no more, sorted.
    dead: Arc<Vec<u32>>,
}

/// Selected partitions, in the order of their keys; materialise them with [`PartitionIndex::partitions`].
#[derive(Clone, Debug, Default)]
pub struct Rows {
    parts: Vec<(usize, Range<u32>)>,
}

impl Rows {
    /// How many partitions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// Whether nothing was selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl LiveRun {
    fn len(&self) -> usize {
        self.run.rows() as usize - self.dead.len()
    }

    fn is_dead(&self, row: u32) -> bool {
        self.dead.binary_search(&row).is_ok()
    }

    /// Every live row.
    fn all(&self) -> impl Iterator<Item = u32> {
        (0..self.run.rows()).filter(|row| !self.is_dead(*row))
    }

    /// The ranges without the dead rows.
    fn live(&self, ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
        if self.dead.is_empty() {
            return ranges;
        }
        let mut live = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut start = range.start;
            let first = self.dead.partition_point(|row| *row < range.start);
            for row in self.dead.iter().skip(first).take_while(|row| **row < range.end) {
                if start < *row {
                    live.push(start..*row);
                }
                start = row + 1;
            }
            if start < range.end {
                live.push(start..range.end);
            }
        }
        live
    }
}

impl PartitionIndex {
    /// No partitions, of a table with these keys.
    #[must_use]
    pub fn empty(keys: &[Column]) -> Self {
        Self { keys: keys.into(), runs: Vec::new() }
    }

    /// These partitions.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn build(keys: &[Column], partitions: impl IntoIterator<Item = PartitionDef>) -> Result<Self> {
        Self::empty(keys).apply(partitions, &[])
    }

    /// The index with some partitions dropped and then others put in; a put replaces what has the same values. Dropping
    /// what is not there does nothing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a partition has a wrong number of values, a value that is none of its key's type, or is put twice;
    /// `LimitExceeded` past [`PARTITIONS_MAX`].
    pub fn apply(&self, puts: impl IntoIterator<Item = PartitionDef>, drops: &[PartitionValues]) -> Result<Self> {
        let puts: Vec<PartitionDef> = puts.into_iter().collect();
        let mut seen = HashSet::with_capacity(puts.len());
        if let Some(twice) = puts.iter().find(|partition| !seen.insert(&partition.values)) {
            return Err(Error::invalid(format!("partition {:?} is put twice in one change", twice.values)));
        }
        let mut dead: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for values in drops.iter().chain(puts.iter().map(|partition| &partition.values)) {
            if let Some((run, row)) = self.locate(values)? {
                dead.entry(run).or_default().push(row);
            }
        }
        let mut index = self.clone();
        for (run, rows) in dead {
            let Some(live) = index.runs.get_mut(run) else { continue };
            let all: BTreeSet<u32> = live.dead.iter().copied().chain(rows).collect();
            live.dead = Arc::new(all.into_iter().collect());
        }
        if !puts.is_empty() {
            index.runs.push(LiveRun { run: Arc::new(Run::build(&self.keys, puts)?), dead: Arc::default() });
        }
        index.compact()?;
        if index.len() > PARTITIONS_MAX {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("a table has at most {PARTITIONS_MAX} partitions"),
            ));
        }
        Ok(index)
    }

    /// Merges runs of like size, and rewrites a run of which more is dead than alive.
    fn compact(&mut self) -> Result<()> {
        self.runs.retain(|run| run.len() > 0);
        while let [.., before, last] = self.runs.as_slice() {
            if last.len() * 2 < before.len() {
                break;
            }
            let merged = self.rewrite(self.runs.len() - 2)?;
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
        for at in 0..self.runs.len() {
            let Some(run) = self.runs.get(at).filter(|run| run.dead.len() > run.len()) else { continue };
            let live = run.all();
            let partitions = live.map(|row| run.run.partition(row)).collect();
            let rewritten = LiveRun { run: Arc::new(Run::build(&self.keys, partitions)?), dead: Arc::default() };
            if let Some(slot) = self.runs.get_mut(at) {
                *slot = rewritten;
            }
        }
        Ok(())
    }

    /// One run of everything that is live from the run `from` on.
    fn rewrite(&self, from: usize) -> Result<LiveRun> {
        let runs = self.runs.get(from..).unwrap_or_default();
        let mut partitions = Vec::with_capacity(runs.iter().map(LiveRun::len).sum());
        for run in runs {
            partitions.extend(run.all().map(|row| run.run.partition(row)));
        }
        Ok(LiveRun { run: Arc::new(Run::build(&self.keys, partitions)?), dead: Arc::default() })
    }

    /// The partition keys.
    #[must_use]
    pub fn keys(&self) -> &[Column] {
        &self.keys
    }

    /// How many partitions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(LiveRun::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory, about.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.run.size_bytes() + run.dead.len() * size_of::<u32>()).sum()
    }

    /// The partition of these values.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a wrong number of values or a value that is none of its key's type.
    pub fn find(&self, values: &[Option<String>]) -> Result<Option<PartitionDef>> {
        let found = self.locate(values)?;
        Ok(found.and_then(|(run, row)| self.runs.get(run).map(|run| run.run.partition(row))))
    }

    fn locate(&self, values: &[Option<String>]) -> Result<Option<(usize, u32)>> {
        if values.len() != self.keys.len() || values.is_empty() {
            let (keys, values) = (self.keys.len(), values.len());
            return Err(Error::invalid(format!("a partition of {keys} keys was named by {values} values")));
        }
        let entries: Result<Vec<_>> =
            self.keys.iter().zip(values).map(|(key, text)| entry(key, text.as_deref())).collect();
        let entries = entries?;
        let found = self.runs.iter().enumerate().find_map(|(at, run)| {
            let row = run.run.find(&entries)?;
            (!run.is_dead(row)).then_some((at, row))
        });
        Ok(found)
    }

    /// The partitions whose values lie in every domain, in the order of their keys. Domains of columns that are no
    /// partition keys are left to the reader. Nothing is allocated per partition when one run holds them all.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a domain holds values of another type than its key's.
    pub fn select(&self, domains: &Domains) -> Result<Rows> {
        let by_key: Vec<Option<&Domain>> =
            self.keys.iter().map(|key| domains.domain(&key.name).filter(|domain| !domain.is_all())).collect();
        for (key, domain) in self.keys.iter().zip(&by_key) {
            if let Some(domain) = domain {
                check_types(key, domain)?;
            }
        }
        let found = self.runs.iter().enumerate().map(|(at, run)| (at, run.live(run.run.select(&by_key))));
        let found: Vec<_> = found.filter(|(_, ranges)| !ranges.is_empty()).collect();
        Ok(Rows { parts: self.in_key_order(found) })
    }

    /// One sequence out of the sorted sequences of several runs.
    fn in_key_order(&self, found: Vec<(usize, Vec<Range<u32>>)>) -> Vec<(usize, Range<u32>)> {
        if let [(at, _)] = found.as_slice() {
            let at = *at;
            return found.into_iter().flat_map(|(_, ranges)| ranges).map(|range| (at, range)).collect();
        }
        let mut rows: Vec<(usize, u32)> =
            found.into_iter().flat_map(|(at, ranges)| ranges.into_iter().flatten().map(move |row| (at, row))).collect();
        let keys = |(at, row): &(usize, u32)| self.runs.get(*at).map(|run| run.run.keys(*row));
        rows.sort_by(|a, b| keys(a).into_iter().flatten().cmp(keys(b).into_iter().flatten()));
        rows.into_iter().map(|(at, row)| (at, row..row + 1)).collect()
    }

    /// Selected partitions, whole.
    pub fn partitions(&self, rows: &Rows) -> impl Iterator<Item = PartitionDef> {
        self.each(rows).map(|(run, row)| run.partition(row))
    }

    /// The typed value of one key of each selected partition, without materialising the partition; `None` is NULL.
    pub fn scalars(&self, rows: &Rows, key: usize) -> impl Iterator<Item = Option<&Scalar>> {
        self.each(rows).map(move |(run, row)| run.scalar(row, key))
    }

    /// Sums of what is known about the selected partitions: `None` where one of them does not know.
    #[must_use]
    pub fn statistics(&self, rows: &Rows) -> Statistics {
        let zero = Statistics::new(Some(0), Some(0), Some(0));
        self.each(rows).map(|(run, row)| run.statistics(row)).fold(zero, |sum, one| {
            let add = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.saturating_add(b));
            Statistics::new(add(sum.rows, one.rows), add(sum.bytes, one.bytes), add(sum.files, one.files))
        })
    }

    fn each(&self, rows: &Rows) -> impl Iterator<Item = (&Run, u32)> {
        rows.parts.iter().flat_map(|(at, range)| {
            self.runs.get(*at).into_iter().flat_map(|run| range.clone().map(move |row| (run.run.as_ref(), row)))
        })
    }
}

fn check_types(key: &Column, domain: &Domain) -> Result<()> {
    let fits = |value: &Scalar| {
        matches!(
            (value, &key.hive_type),
            (Scalar::Boolean(_), HiveType::Boolean)
                | (Scalar::Int(_), HiveType::TinyInt | HiveType::SmallInt | HiveType::Int | HiveType::BigInt)
                | (Scalar::Real(_), HiveType::Float | HiveType::Double)
                | (Scalar::Decimal(_), HiveType::Decimal(..))
                | (Scalar::Date(_), HiveType::Date)
                | (Scalar::Timestamp(_), HiveType::Timestamp)
                | (Scalar::Text(_), HiveType::String | HiveType::Varchar(_) | HiveType::Char(_))
        )
    };
    for bound in domain.ranges().iter().flat_map(|(low, high)| [low, high]) {
        if let Bound::Included(value) | Bound::Excluded(value) = bound
            && !fits(value)
        {
            let (name, hive_type) = (&key.name, &key.hive_type);
            return Err(Error::invalid(format!(
                "partition key \"{name}\" is {hive_type}, the filter asks for {value:?}: cast the literal first"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Vec<Column> {
        vec![Column::new("a", HiveType::Int), Column::new("b", HiveType::String), Column::new("c", HiveType::Int)]
    }

    fn values() -> impl Strategy<Value = PartitionValues> {
        let int = || prop::option::weighted(0.9, prop_oneof!["[0-9]", "0[0-3]"]);
        (int(), prop::option::weighted(0.9, "[a-c]?"), int()).prop_map(|(a, b, c)| vec![a, b, c])
    }

    fn domains() -> impl Strategy<Value = Domains> {
        let ints = || {
            prop_oneof![
                Just(None),
                (0_i64..10).prop_map(|value| Some(Domain::equal(value))),
                (0_i64..10, 0_i64..10).prop_map(|(low, high)| {
                    Some(Domain::range(Bound::Included(low.into()), Bound::Excluded(high.into())))
                }),
                prop::collection::vec(0_i64..10, 0..4)
                    .prop_map(|values| Some(Domain::one_of(values).union(&Domain::null()))),
            ]
        };
        let text = prop_oneof![
            Just(None),
            Just(Some(Domain::equal("b"))),
            Just(Some(Domain::null())),
            Just(Some(Domain::prefix("a")))
        ];
        (ints(), text, ints()).prop_map(|(a, b, c)| {
            let pairs = [("a", a), ("b", b), ("c", c)];
            pairs.into_iter().filter_map(|(key, domain)| domain.map(|domain| (key, domain))).collect()
        })
    }

    fn model_selects(partition: &PartitionDef, domains: &Domains) -> bool {
        keys().iter().zip(&partition.values).all(|(key, text)| {
            let value = text.as_deref().map(|text| Scalar::parse(text, &key.hive_type).unwrap());
            domains.domain(&key.name).is_none_or(|domain| domain.contains(value.as_ref()))
        })
    }

    proptest! {
        #[test]
        fn selecting_is_filtering_after_any_changes(
            changes in prop::collection::vec((prop::collection::vec(values(), 0..40), prop::collection::vec(values(), 0..10)), 1..6),
            domains in domains(),
        ) {
            let mut index = PartitionIndex::empty(&keys());
            let mut model: BTreeMap<PartitionValues, PartitionDef> = BTreeMap::new();
            for (round, (puts, drops)) in changes.into_iter().enumerate() {
                let puts: BTreeSet<PartitionValues> = puts.into_iter().collect();
                let puts: Vec<PartitionDef> = puts
                    .into_iter()
                    .map(|values| PartitionDef { values, ..PartitionDef::default() }.with_statistics(Statistics::new(Some(round as u64), None, None)))
                    .collect();
                index = index.apply(puts.clone(), &drops).unwrap();
                model.retain(|values, _| !drops.contains(values));
                model.extend(puts.into_iter().map(|partition| (partition.values.clone(), partition)));
            }
            prop_assert_eq!(index.len(), model.len());
            let rows = index.select(&domains).unwrap();
            let selected: Vec<PartitionDef> = index.partitions(&rows).collect();
            prop_assert_eq!(rows.len(), selected.len());
            let by_values: BTreeMap<PartitionValues, PartitionDef> = selected.iter().map(|p| (p.values.clone(), p.clone())).collect();
            prop_assert_eq!(by_values.len(), selected.len(), "a partition was selected twice");
            model.retain(|_, partition| model_selects(partition, &domains));
            prop_assert_eq!(by_values, model);
            let order: Vec<_> = selected.iter().map(|p| keys().iter().zip(&p.values).map(|(k, v)| entry(k, v.as_deref()).unwrap()).collect::<Vec<_>>()).collect();
            prop_assert!(order.is_sorted());
        }
    }

    #[test]
    fn a_filter_of_another_type_is_refused() {
        let index = PartitionIndex::empty(&keys());
        let error = index.select(&Domains::all().with("a", Domain::equal("1"))).unwrap_err();
        assert!(error.message().contains("cast the literal"), "{error}");
    }
}
