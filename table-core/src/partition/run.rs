//! One sorted, columnar, immutable run of partitions: what a `PartitionIndex` is made of.
//!
//! Invariant: rows are sorted by their codes, codes of a column are in the order of its dictionary, and the dictionary is
//! sorted by typed value, then text, NULL first. So a range of values is a range of codes, and a prefix of keys is a range
//! of rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};

use super::{Domain, PartitionDef, PartitionLocation, Statistics};
use crate::{Column, Result, Scalar};

/// A distinct value of a key: typed, and as text. `None` is NULL.
type Entry = (Option<Scalar>, Option<Box<str>>);

#[derive(Debug)]
pub(super) struct Run {
    columns: Vec<KeyColumn>,
    rows: u32,
    statistics: Option<Vec<Statistics>>,
    by_values: bool,
    locations: BTreeMap<u32, PartitionLocation>,
    properties: BTreeMap<u32, BTreeMap<String, String>>,
}

/// One key of every row: a code into a sorted dictionary.
#[derive(Debug)]
struct KeyColumn {
    entries: Vec<Entry>,
    codes: Codes,
}

/// Codes in the narrowest width that holds them.
#[derive(Debug)]
enum Codes {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Codes {
    fn new(codes: Vec<u32>, entries: usize) -> Self {
        fn narrow<T: TryFrom<u32>>(codes: &[u32]) -> Option<Vec<T>> {
            codes.iter().map(|code| T::try_from(*code).ok()).collect()
        }
        if entries <= 1 << 8 {
            if let Some(codes) = narrow(&codes) {
                return Self::U8(codes);
            }
        } else if entries <= 1 << 16
            && let Some(codes) = narrow(&codes)
        {
            return Self::U16(codes);
        }
        Self::U32(codes)
    }

    /// The code of a row; past the end, which is a bug, a code that no dictionary has.
    fn get(&self, row: u32) -> u32 {
        let row = row as usize;
        match self {
            Self::U8(codes) => codes.get(row).map(|code| u32::from(*code)),
            Self::U16(codes) => codes.get(row).map(|code| u32::from(*code)),
            Self::U32(codes) => codes.get(row).copied(),
        }
        .unwrap_or(u32::MAX)
    }

    /// Where the value at `row` ends among rows that are sorted by this column: near values are found in few steps.
    fn end_of_value(&self, row: u32, end: u32) -> u32 {
        let code = self.get(row);
        let (mut from, mut step) = (row, 1);
        while let Some(probe) = from.checked_add(step).filter(|probe| *probe < end && self.get(*probe) == code) {
            from = probe;
            step *= 2;
        }
        self.lower_bound(&(from..end.min(from.saturating_add(step).saturating_add(1))), code + 1)
    }

    /// The first of these rows, which are sorted by this column, whose code is at least `code`.
    fn lower_bound(&self, rows: &Range<u32>, code: u32) -> u32 {
        let (mut low, mut high) = (rows.start, rows.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle) < code { low = middle + 1 } else { high = middle }
        }
        low
    }
}

impl KeyColumn {
    fn build(texts: &[Entry]) -> (Vec<Entry>, Vec<u32>) {
        // Most columns have few distinct values: a set of them is much smaller than the rows.
        let entries: Vec<&Entry> = texts.iter().collect::<BTreeSet<_>>().into_iter().collect();
        // At most one entry a row, and rows are counted in `u32`.
        let codes = texts
            .iter()
            .map(|entry| u32::try_from(entries.partition_point(|known| *known < entry)).unwrap_or(u32::MAX));
        let codes = codes.collect();
        (entries.into_iter().cloned().collect(), codes)
    }

    fn entry(&self, row: u32) -> Option<&Entry> {
        self.entries.get(self.codes.get(row) as usize)
    }

    fn text(&self, row: u32) -> Option<String> {
        self.entry(row).and_then(|(_, text)| text.as_deref().map(str::to_owned))
    }

    /// The code ranges that a domain allows, sorted and disjoint.
    fn allowed(&self, domain: &Domain) -> Vec<Range<u32>> {
        let at = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let nulls = self.entries.partition_point(|(value, _)| value.is_none());
        let mut allowed = Vec::new();
        if domain.has_null() && nulls > 0 {
            allowed.push(0..at(nulls));
        }
        for (low, high) in domain.ranges() {
            let start =
                self.entries.partition_point(|(value, _)| value.as_ref().is_none_or(|value| is_below(value, low)));
            let end =
                self.entries.partition_point(|(value, _)| value.as_ref().is_none_or(|value| !is_above(value, high)));
            if start < end {
                allowed.push(at(start)..at(end));
            }
        }
        allowed
    }

    fn code(&self, entry: &Entry) -> Option<u32> {
        self.entries.binary_search(entry).ok().and_then(|index| u32::try_from(index).ok())
    }
}

fn is_below(value: &Scalar, low: &Bound<Scalar>) -> bool {
    match low {
        Bound::Included(low) => value < low,
        Bound::Excluded(low) => value <= low,
        Bound::Unbounded => false,
    }
}

fn is_above(value: &Scalar, high: &Bound<Scalar>) -> bool {
    match high {
        Bound::Included(high) => value > high,
        Bound::Excluded(high) => value >= high,
        Bound::Unbounded => false,
    }
}

impl Run {
    /// A run of partitions of distinct values.
    pub(super) fn build(keys: &[Column], partitions: Vec<PartitionDef>) -> Result<Self> {
        let mut columns = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            let entries: Result<Vec<Entry>> = partitions
                .iter()
                .map(|partition| entry(key, partition.values.get(index).and_then(Option::as_deref)))
                .collect();
            columns.push(KeyColumn::build(&entries?));
        }
        let mut order: Vec<usize> = (0..partitions.len()).collect();
        let codes_of =
            |row: usize| columns.iter().map(move |(_, codes): &(Vec<Entry>, Vec<u32>)| codes.get(row).copied());
        order.sort_unstable_by(|a, b| codes_of(*a).cmp(codes_of(*b)));
        let columns = columns.into_iter().map(|(entries, codes)| {
            let sorted = order.iter().filter_map(|row| codes.get(*row).copied()).collect();
            KeyColumn { codes: Codes::new(sorted, entries.len()), entries }
        });
        let mut run = Self {
            columns: columns.collect(),
            rows: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
            statistics: None,
            by_values: partitions.iter().all(|partition| partition.location == PartitionLocation::ByValues),
            locations: BTreeMap::new(),
            properties: BTreeMap::new(),
        };
        run.keep_rest(&order, partitions);
        Ok(run)
    }

    /// Keeps what is not a key, in row order, and only where there is any.
    fn keep_rest(&mut self, order: &[usize], mut partitions: Vec<PartitionDef>) {
        if partitions.iter().any(|partition| partition.statistics != Statistics::default()) {
            let sorted = order.iter().filter_map(|row| partitions.get(*row)).map(|partition| partition.statistics);
            self.statistics = Some(sorted.collect());
        }
        for (row, from) in (0_u32..).zip(order) {
            let Some(partition) = partitions.get_mut(*from) else { continue };
            if !self.by_values && partition.location != PartitionLocation::ByKeys {
                self.locations.insert(row, std::mem::take(&mut partition.location));
            }
            if !partition.properties.is_empty() {
                self.properties.insert(row, std::mem::take(&mut partition.properties));
            }
        }
    }

    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    pub(super) fn partition(&self, row: u32) -> PartitionDef {
        let location = if self.by_values { PartitionLocation::ByValues } else { PartitionLocation::ByKeys };
        let statistics = self.statistics.as_ref().and_then(|all| all.get(row as usize)).copied().unwrap_or_default();
        PartitionDef {
            values: self.columns.iter().map(|column| column.text(row)).collect(),
            location: self.locations.get(&row).cloned().unwrap_or(location),
            statistics,
            properties: self.properties.get(&row).cloned().unwrap_or_default(),
        }
    }

    pub(super) fn statistics(&self, row: u32) -> Statistics {
        self.statistics.as_ref().and_then(|all| all.get(row as usize)).copied().unwrap_or_default()
    }

    /// The typed value of a key of a row; `None` is NULL.
    pub(super) fn scalar(&self, row: u32, column: usize) -> Option<&Scalar> {
        self.columns.get(column)?.entry(row)?.0.as_ref()
    }

    /// The keys of a row, comparable with those of another run.
    pub(super) fn keys(&self, row: u32) -> impl Iterator<Item = Option<&Entry>> {
        self.columns.iter().map(move |column| column.entry(row))
    }

    /// The row of these values.
    pub(super) fn find(&self, entries: &[Entry]) -> Option<u32> {
        let mut rows = 0..self.rows;
        for (column, entry) in self.columns.iter().zip(entries) {
            let code = column.code(entry)?;
            rows = column.codes.lower_bound(&rows, code)..column.codes.lower_bound(&rows, code + 1);
        }
        (!rows.is_empty()).then_some(rows.start)
    }

    /// The ranges of rows that pass a domain for each column (`None`: not constrained), in order.
    pub(super) fn select(&self, domains: &[Option<&Domain>]) -> Vec<Range<u32>> {
        let filters: Vec<Option<Filter>> = self
            .columns
            .iter()
            .zip(domains)
            .map(|(column, domain)| domain.map(|domain| Filter::new(column, domain)))
            .collect();
        let mut search =
            Search { run: self, last: filters.iter().rposition(Option::is_some), filters, found: Vec::new() };
        search.descend(0, 0..self.rows);
        search.found
    }

    /// Bytes in memory, about.
    pub(super) fn size_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| {
            let width = match column.codes {
                Codes::U8(_) => 1,
                Codes::U16(_) => 2,
                Codes::U32(_) => 4,
            };
            let texts: usize = column.entries.iter().map(|(_, text)| 2 * text.as_deref().map_or(0, str::len)).sum();
            width * self.rows as usize + column.entries.len() * size_of::<Entry>() + texts
        });
        let statistics = self.statistics.as_ref().map_or(0, |all| all.len() * size_of::<Statistics>());
        columns.sum::<usize>() + statistics + 64 * (self.locations.len() + self.properties.len())
    }
}

/// A value of a key as a dictionary holds it.
pub(super) fn entry(key: &Column, text: Option<&str>) -> Result<(Option<Scalar>, Option<Box<str>>)> {
    Ok(match text {
        None => (None, None),
        Some(text) => (Some(Scalar::parse(text, &key.hive_type)?), Some(text.into())),
    })
}

/// What a domain allows of one column of one run.
struct Filter {
    allowed: Vec<Range<u32>>,
    /// The same, by code: for rows that are looked at one by one.
    passes: Vec<bool>,
}

impl Filter {
    fn new(column: &KeyColumn, domain: &Domain) -> Self {
        let allowed = column.allowed(domain);
        let mut passes = vec![false; column.entries.len()];
        for range in &allowed {
            if let Some(codes) = passes.get_mut(range.start as usize..range.end as usize) {
                codes.fill(true);
            }
        }
        Self { allowed, passes }
    }
}

/// Rows looked at one by one cost about this much less than a binary search.
const SCAN_ROWS_PER_SEARCH: usize = 64;

struct Search<'a> {
    run: &'a Run,
    filters: Vec<Option<Filter>>,
    last: Option<usize>,
    found: Vec<Range<u32>>,
}

impl Search<'_> {
    /// Finds what passes among rows that agree in every column before `depth`, and so are sorted by the column at it.
    fn descend(&mut self, depth: usize, rows: Range<u32>) {
        if rows.is_empty() {
            return;
        }
        if self.last.is_none_or(|last| depth > last) {
            self.emit(rows);
            return;
        }
        let run = self.run;
        let Some(column) = run.columns.get(depth) else { return };
        let allowed = self.filters.get(depth).and_then(Option::as_ref).map(|filter| filter.allowed.clone());
        let every = 0..u32::try_from(column.entries.len()).unwrap_or(u32::MAX);
        for codes in allowed.unwrap_or_else(|| vec![every]) {
            let within = column.codes.lower_bound(&rows, codes.start)..column.codes.lower_bound(&rows, codes.end);
            if codes.len() == 1 {
                self.descend(depth + 1, within);
            } else if self.last == Some(depth) {
                self.emit(within);
            } else if within.len() > SCAN_ROWS_PER_SEARCH * codes.len() {
                self.skip(depth, within);
            } else {
                self.scan(depth + 1, within);
            }
        }
    }

    /// Descends into each value of a column in turn.
    fn skip(&mut self, depth: usize, rows: Range<u32>) {
        let run = self.run;
        let Some(column) = run.columns.get(depth) else { return };
        let mut at = rows.start;
        while at < rows.end {
            let end = column.codes.end_of_value(at, rows.end);
            self.descend(depth + 1, at..end);
            at = end;
        }
    }

    /// Looks at each row's codes from `depth` on.
    fn scan(&mut self, depth: usize, rows: Range<u32>) {
        let run = self.run;
        let filters = std::mem::take(&mut self.filters);
        let checks: Vec<(&Codes, &[bool])> = run
            .columns
            .iter()
            .zip(&filters)
            .skip(depth)
            .filter_map(|(column, filter)| filter.as_ref().map(|filter| (&column.codes, filter.passes.as_slice())))
            .collect();
        for row in rows {
            if checks.iter().all(|(codes, passes)| passes.get(codes.get(row) as usize).copied().unwrap_or(false)) {
                self.emit(row..row + 1);
            }
        }
        self.filters = filters;
    }

    fn emit(&mut self, rows: Range<u32>) {
        if rows.is_empty() {
            return;
        }
        match self.found.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => self.found.push(rows),
        }
    }
}
