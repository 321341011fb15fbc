//! Whether files of nothing but text have headers: their neighbours decide.
//!
//! Invariant: pure, and independent of the order of the files.

use std::collections::{BTreeMap, BTreeSet};

use table_core::infer::ObservedFields;
use table_core::partition_path;

use super::group;
use super::profile::{Delimited, Header};

/// Two first rows that share so much name the same columns.
const OVERLAP_MIN: f64 = 0.5;

/// For each file (path and what it holds), whether its first row names the columns.
///
/// A file of which that is not sure has a header if a neighbour of the same width names some of the same columns, or if no
/// neighbour is as unsure. Unsure neighbours whose first rows have nothing in common are data. Neighbours lie in the same folder,
/// or in folders that are partitions of the same one.
pub(super) fn settle(files: &[(&str, &Delimited)]) -> Vec<bool> {
    let mut neighbours: BTreeMap<(String, u8, usize), Vec<usize>> = BTreeMap::new();
    for (index, (path, delimited)) in files.iter().enumerate() {
        neighbours.entry((neighbourhood(path), delimited.delimiter, delimited.first.len())).or_default().push(index);
    }
    let mut settled: Vec<bool> = files.iter().map(|(_, delimited)| delimited.header == Header::Sure).collect();
    for group in neighbours.values() {
        // How many of the group, headless ones aside, name each column: so that each file is compared with all at once.
        let mut named: BTreeMap<String, usize> = BTreeMap::new();
        let candidates: Vec<usize> = group
            .iter()
            .copied()
            .filter(|index| files.get(*index).is_some_and(|(_, file)| file.header != Header::No))
            .collect();
        for index in &candidates {
            for name in files.get(*index).map(|(_, file)| names(file)).unwrap_or_default() {
                *named.entry(name).or_default() += 1;
            }
        }
        for index in candidates {
            let Some((_, file)) = files.get(index).filter(|(_, file)| file.header == Header::Maybe) else { continue };
            let shared = names(file).iter().filter(|name| named.get(*name).is_some_and(|count| *count > 1)).count();
            // A neighbour with a header of other names is another table: it says nothing about this file.
            let unsure =
                group.iter().filter(|other| files.get(**other).is_some_and(|(_, file)| file.header != Header::Sure));
            let alone = unsure.count() == 1;
            let overlaps = ratio(shared, file.first.len()) >= OVERLAP_MIN;
            if let Some(header) = settled.get_mut(index) {
                *header = alone || overlaps;
            }
        }
    }
    settled
}

/// The folder of a file, alike for all partitions: `t/day=*` for `t/day=1/a.csv`, `logs/*` for `logs/2024-01/a.csv`.
fn neighbourhood(path: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let alike = |part: &str| match partition_path::parse_folder(part) {
        Some((key, _)) => format!("{}=*", key.to_lowercase()),
        None if group::is_dated(part) => "*".to_owned(),
        None => part.to_owned(),
    };
    folder.split('/').map(alike).collect::<Vec<_>>().join("/")
}

fn names(file: &Delimited) -> BTreeSet<String> {
    file.first.iter().map(|name| name.to_lowercase()).collect()
}

fn ratio(part: usize, whole: usize) -> f64 {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    if whole == 0 { 0.0 } else { count(part) / count(whole) }
}

/// The columns of a file once that is settled: by the names of its first row, or `col0`, `col1`, ... of all its rows.
pub(super) fn columns(file: &Delimited, header: bool, source: &str) -> ObservedFields {
    let mut columns = ObservedFields::default();
    columns.rows_of(source, file.body_rows + u64::from(!header));
    for ((index, first), body) in (0_u32..).zip(&file.first).zip(&file.body) {
        let name = if header { first.clone() } else { format!("col{index}") };
        let column = columns.field(&name, index, source);
        column.merge(body.clone());
        if !header {
            column.text(first, source);
        }
    }
    columns
}
