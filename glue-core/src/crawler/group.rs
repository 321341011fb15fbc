//! Which files make up which tables, by where they lie and how alike their columns are.
//!
//! Invariant: pure, and independent of the order of the files. A folder becomes a partition of the folder above only if all
//! that lies in it is one table; every decision leaves a reason in words.

use std::collections::{BTreeMap, BTreeSet};

use table_core::infer::ObservedFields;
use table_core::{PartitionValues, partition_path};

use super::plan::Problem;
use super::profile::Kind;

/// Columns at least so alike, of 1, belong to one table: Glue's threshold.
pub(super) const SIMILARITY_MIN: f64 = 0.7;

/// How deep folders are followed.
const DEPTH_MAX: usize = 64;

/// More distinct sets of columns than this in one place are compared with the first of each kind only.
const SHAPES_COMPARED_MAX: usize = 500;

/// A file that is understood.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Below the crawl's target.
    pub(super) relative: String,
    pub(super) kind: Kind,
    pub(super) columns: ObservedFields,
}

/// Files that make up one table.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// A folder, or one file, below the target.
    pub(super) root: String,
    pub(super) is_file: bool,
    pub(super) kind: Kind,
    pub(super) keys: Keys,
    pub(super) parts: BTreeMap<PartitionValues, Part>,
    pub(super) columns: ObservedFields,
    pub(super) reasons: Vec<String>,
}

/// Names of partition keys; `None` for folders that do not say.
type Keys = Vec<Option<String>>;

/// A folder's name, and the one table that it is.
type Folder = (String, Candidate);

/// The files of one partition, or of a table without partitions.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// Below the table's root.
    pub(super) folder: String,
    /// Indices of members.
    pub(super) files: Vec<usize>,
}

/// Groups members; the result is sorted by root.
pub(super) fn group(members: &[Member]) -> (Vec<Candidate>, Vec<Problem>) {
    let mut grouping = Grouping { members, problems: Vec::new() };
    let all: Vec<usize> = (0..members.len()).collect();
    let mut tables = grouping.visit("", 0, &all);
    tables.sort_by(|a, b| a.root.cmp(&b.root));
    (tables, grouping.problems)
}

/// How alike two sets of columns are: the share of the smaller one's names that the larger one has. Types do not count: two
/// files whose `a` is once a number and once text are one table whose `a` is text.
fn similarity(a: &BTreeSet<&str>, b: &BTreeSet<&str>) -> f64 {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let smaller = a.len().min(b.len());
    if smaller == 0 { 1.0 } else { count(a.intersection(b).count()) / count(smaller) }
}

fn names(columns: &ObservedFields) -> BTreeSet<&str> {
    columns.columns().map(|(name, _)| name).collect()
}

struct Grouping<'a> {
    members: &'a [Member],
    problems: Vec<Problem>,
}

impl Grouping<'_> {
    /// The tables within a folder.
    fn visit(&mut self, root: &str, depth: usize, within: &[usize]) -> Vec<Candidate> {
        let mut own = Vec::new();
        let mut folders: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let members = self.members;
        for index in within {
            let Some(member) = members.get(*index) else { continue };
            let rest = member.relative.get(if root.is_empty() { 0 } else { root.len() + 1 }..).unwrap_or_default();
            match rest.split_once('/') {
                None => own.push(*index),
                Some(_) if depth >= DEPTH_MAX => {
                    let reason = format!("it lies deeper than {DEPTH_MAX} folders");
                    self.problems.push(Problem::new(member.relative.clone(), reason));
                }
                Some((folder, _)) => folders.entry(folder).or_default().push(*index),
            }
        }
        let children: Vec<(String, Vec<Candidate>)> = folders
            .into_iter()
            .map(|(folder, within)| (folder.to_owned(), self.visit(&join(root, folder), depth + 1, &within)))
            .collect();
        let mut tables = self.loose_files(root, &own, children.is_empty());
        tables.extend(self.join_folders(root, children));
        tables
    }

    /// Tables of the files that lie directly in a folder.
    fn loose_files(&mut self, root: &str, own: &[usize], alone: bool) -> Vec<Candidate> {
        let clusters = self.clusters(own);
        let mut tables = Vec::new();
        let kinds = clusters.len();
        for (cluster, least) in clusters {
            if kinds == 1 && alone {
                let mut reasons = Vec::new();
                if cluster.len() > 1 {
                    reasons.push(format!(
                        "{} files in one folder: columns agree to at least {:.0} %",
                        cluster.len(),
                        least * 100.0
                    ));
                }
                tables.extend(self.table(root, false, cluster, reasons));
            } else if let [only] = cluster.as_slice() {
                let path = self.members.get(*only).map(|member| member.relative.clone()).unwrap_or_default();
                let why = if alone { "its neighbours have other columns" } else { "it lies beside folders" };
                tables.extend(self.table(&path, true, cluster, vec![format!("a table of one file: {why}")]));
            } else {
                let count = cluster.len();
                let beside = if alone { "files with other columns" } else { "folders" };
                for index in cluster {
                    let Some(member) = self.members.get(index) else { continue };
                    let reason = format!(
                        "it and {} files like it lie beside {beside}: put each kind of file in a folder of its own",
                        count - 1
                    );
                    self.problems.push(Problem::new(member.relative.clone(), reason));
                }
            }
        }
        tables
    }

    fn table(&self, root: &str, is_file: bool, files: Vec<usize>, reasons: Vec<String>) -> Option<Candidate> {
        let kind = self.members.get(*files.first()?)?.kind;
        let mut columns = ObservedFields::default();
        for index in &files {
            columns.merge(self.members.get(*index)?.columns.clone());
        }
        let parts = BTreeMap::from([(Vec::new(), Part { folder: String::new(), files })]);
        Some(Candidate { root: root.to_owned(), is_file, kind, keys: Vec::new(), parts, columns, reasons })
    }

    /// Files of one kind whose columns are alike, directly or through others, and the least similarity that joined them.
    fn clusters(&self, files: &[usize]) -> Vec<(Vec<usize>, f64)> {
        let mut shapes: BTreeMap<(Kind, BTreeSet<&str>), Vec<usize>> = BTreeMap::new();
        for index in files {
            if let Some(member) = self.members.get(*index) {
                shapes.entry((member.kind, names(&member.columns))).or_default().push(*index);
            }
        }
        let shapes: Vec<_> = shapes.into_iter().collect();
        let alike = |a: usize, b: usize| match (shapes.get(a), shapes.get(b)) {
            (Some(((kind_a, a), _)), Some(((kind_b, b), _))) if kind_a == kind_b => similarity(a, b),
            _ => 0.0,
        };
        components(shapes.len(), SIMILARITY_MIN, alike)
            .into_iter()
            .map(|(component, least)| {
                let mut files: Vec<usize> = component
                    .into_iter()
                    .filter_map(|shape| shapes.get(shape))
                    .flat_map(|(_, files)| files.iter().copied())
                    .collect();
                files.sort_unstable();
                (files, least)
            })
            .collect()
    }

    /// Joins folders that are partitions of the folder above; the rest stay tables of their own.
    fn join_folders(&mut self, root: &str, children: Vec<(String, Vec<Candidate>)>) -> Vec<Candidate> {
        let folders = children.len();
        let mut tables = Vec::new();
        // Folders that are one table each, by the key they name and by what must agree.
        let mut hive: BTreeMap<(String, Kind, Keys), Vec<Folder>> = BTreeMap::new();
        let mut plain: BTreeMap<(Kind, Keys), Vec<Folder>> = BTreeMap::new();
        for (folder, mut candidates) in children {
            let whole = matches!(candidates.as_slice(), [only] if !only.is_file && only.root == join(root, &folder));
            match (whole.then(|| candidates.pop()).flatten(), partition_path::parse_folder(&folder)) {
                (Some(table), Some((key, _))) => {
                    hive.entry((key.to_lowercase(), table.kind, table.keys.clone())).or_default().push((folder, table));
                }
                (Some(table), None) => plain.entry((table.kind, table.keys.clone())).or_default().push((folder, table)),
                (None, _) => tables.extend(candidates),
            }
        }
        // One table can have its root here: the one with most folders.
        let largest = hive.iter().max_by_key(|(_, folders)| folders.len()).map(|(shape, _)| shape.clone());
        for (shape, folders) in hive {
            if Some(&shape) == largest.as_ref() {
                let why = format!("{} folders named {}=...: partitions by {}", folders.len(), shape.0, shape.0);
                tables.push(self.joined(root, Some(shape.0), folders, why));
            } else {
                tables.extend(folders.into_iter().map(|(_, table)| table));
            }
        }
        for (_, alike) in plain {
            tables.extend(self.join_unnamed(root, alike, folders));
        }
        tables
    }

    /// Folders that name no key: partitions if there is nothing else here and their columns are alike.
    fn join_unnamed(&mut self, root: &str, alike: Vec<Folder>, folders: usize) -> Vec<Candidate> {
        let dated = alike.iter().all(|(folder, _)| is_dated(folder));
        let sets: Vec<BTreeSet<&str>> = alike.iter().map(|(_, table)| names(&table.columns)).collect();
        let similar = |a: usize, b: usize| match (sets.get(a), sets.get(b)) {
            (Some(a), Some(b)) => similarity(a, b),
            _ => 0.0,
        };
        // A folder named by a date or a number says by itself what it is: sharing any column is enough.
        let least_alike = if dated { f64::MIN_POSITIVE } else { SIMILARITY_MIN };
        let components = components(alike.len(), least_alike, similar);
        let least = components.iter().map(|(_, least)| *least).fold(1.0, f64::min);
        let together = alike.len() == folders && components.len() == 1 && (alike.len() > 1 || dated);
        drop(sets);
        if together {
            let why =
                format!("{} folders whose columns agree to at least {:.0} %: partitions", alike.len(), least * 100.0);
            return vec![self.joined(root, None, alike, why)];
        }
        let why = if components.len() > 1 {
            Some(format!(
                "a table of its own: columns of the folders beside it agree to less than {:.0} %",
                SIMILARITY_MIN * 100.0
            ))
        } else {
            (alike.len() != folders).then(|| "a table of its own: the folders beside it hold something else".to_owned())
        };
        let mut tables: Vec<Candidate> = alike.into_iter().map(|(_, table)| table).collect();
        for table in &mut tables {
            table.reasons.extend(why.clone());
        }
        tables
    }

    fn joined(&mut self, root: &str, key: Option<String>, folders: Vec<Folder>, why: String) -> Candidate {
        let mut parts: BTreeMap<PartitionValues, Part> = BTreeMap::new();
        let mut columns = ObservedFields::default();
        let mut reasons = vec![why];
        let (mut kind, mut keys) = (None, Vec::new());
        for (folder, table) in folders {
            let value = match &key {
                Some(_) => partition_path::parse_folder(&folder).and_then(|(_, value)| value),
                None => Some(folder.clone()),
            };
            for (values, part) in table.parts {
                let values: PartitionValues = std::iter::once(value.clone()).chain(values).collect();
                let below = join(&folder, &part.folder);
                if let Some(other) = parts.get(&values) {
                    let reason = format!("it names the same partition as \"{}\"", join(root, &other.folder));
                    self.problems.push(Problem::new(join(root, &below), reason));
                    continue;
                }
                parts.insert(values, Part { folder: below, files: part.files });
            }
            columns.merge(table.columns);
            for reason in table.reasons {
                // The same is said of most folders.
                if reasons.len() < 8 && !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
            kind.get_or_insert(table.kind);
            keys = table.keys;
        }
        keys.insert(0, key);
        let kind = kind.unwrap_or(Kind::plain(table_core::Format::Csv));
        Candidate { root: root.to_owned(), is_file: false, kind, keys, parts, columns, reasons }
    }
}

/// Whether a folder is named by a date or a number.
pub(super) fn is_dated(folder: &str) -> bool {
    folder.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// The path of what lies below a root; either may be empty.
pub(super) fn join(root: &str, below: &str) -> String {
    match (root.is_empty(), below.is_empty()) {
        (true, _) => below.to_owned(),
        (_, true) => root.to_owned(),
        _ => format!("{root}/{below}"),
    }
}

/// Connected components of "at least so similar", each with the least similarity between its first and its others.
fn components(count: usize, least_alike: f64, similarity: impl Fn(usize, usize) -> f64) -> Vec<(Vec<usize>, f64)> {
    let mut open: BTreeSet<usize> = (0..count).collect();
    let mut components = Vec::new();
    while let Some(first) = open.pop_first() {
        let (mut component, mut frontier) = (vec![first], vec![first]);
        while let Some(at) = frontier.pop() {
            if count > SHAPES_COMPARED_MAX && at != first {
                continue;
            }
            let near: Vec<usize> = open.iter().copied().filter(|other| similarity(at, *other) >= least_alike).collect();
            for other in near {
                open.remove(&other);
                component.push(other);
                frontier.push(other);
            }
        }
        component.sort_unstable();
        let least = component.iter().map(|other| similarity(first, *other)).fold(1.0, f64::min);
        components.push((component, least));
    }
    components
}
