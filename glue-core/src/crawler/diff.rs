//! What must change in the catalog for a table to be as its files are.
//!
//! Invariant: pure. Against a catalog that holds the table already, the change is empty. What a person added to a table
//! (properties, a comment, partitions that lie elsewhere) stays.

use std::collections::BTreeSet;

use table_core::{
    CatalogState, Change, Domains, Expect, PartitionDef, PartitionLocation, PartitionValues, TableDef, TableState,
};

use super::define::Definition;
use super::plan::{Outcome, PlannedTable};
use crate::Result;

/// Adds to `change` what one table needs, and says what that is. `unread` are paths of files that could not be read.
pub(super) fn diff(
    wanted: Definition,
    state: &CatalogState,
    unread: &BTreeSet<String>,
    change: Change,
) -> Result<(Change, PlannedTable)> {
    match state.table(&wanted.def.database, &wanted.def.name) {
        None => Ok(create(wanted, change)),
        Some(table) => update(wanted, table, unread, change),
    }
}

fn create(wanted: Definition, mut change: Change) -> (Change, PlannedTable) {
    let (database, name) = (wanted.def.database.clone(), wanted.def.name.clone());
    change = change.create_table(wanted.def.clone());
    if !wanted.partitions.is_empty() {
        change = change.add_partitions(&database, &name, wanted.partitions.clone());
    }
    let mut planned = planned(wanted, Outcome::New);
    planned.partitions_new = planned.partitions;
    (change, planned)
}

fn update(
    mut wanted: Definition,
    table: &TableState,
    unread: &BTreeSet<String>,
    mut change: Change,
) -> Result<(Change, PlannedTable)> {
    let present = table.def();
    let (database, name) = (present.database.clone(), present.name.clone());
    let mut properties = present.properties.clone();
    properties.append(&mut wanted.def.properties);
    wanted.def.properties = properties;
    wanted.def.comment.clone_from(&present.comment);
    wanted.def.version = present.version;
    keep_comments(&mut wanted.def, present);

    let rekeyed = wanted.def.partition_keys.len() != present.partition_keys.len();
    let gone = gone(table, &wanted, unread, rekeyed)?;
    let (mut new, mut changed) = (0, 0);
    let mut puts = Vec::new();
    for partition in &wanted.partitions {
        let known = if rekeyed { None } else { table.partitions().find(&partition.values).ok().flatten() };
        match known {
            Some(known) if same(&known, partition) => continue,
            Some(known) => {
                changed += 1;
                let mut put = partition.clone();
                put.properties = known.properties;
                puts.push(put);
            }
            None => {
                new += 1;
                puts.push(partition.clone());
            }
        }
    }
    let gone_count = gone.len();
    let redefined = !present.same_definition(&wanted.def);
    let outcome = if redefined || gone_count > 0 || !puts.is_empty() { Outcome::Changed } else { Outcome::Unchanged };
    if outcome == Outcome::Changed {
        // The plan is for the table as it was read, its partitions included.
        change = change.expecting(Expect::TableSnapshot {
            database: database.clone(),
            name: name.clone(),
            snapshot: present.snapshot,
        });
    }
    if gone_count > 0 {
        change = change.drop_partitions(&database, &name, gone);
    }
    if redefined {
        change = change.replace_table(wanted.def.clone());
    }
    if !puts.is_empty() {
        change = change.put_partitions(&database, &name, puts);
    }
    let mut planned = planned(wanted, outcome);
    (planned.partitions_new, planned.partitions_changed, planned.partitions_gone) = (new, changed, gone_count);
    Ok((change, planned))
}

/// Partitions below the table's folder that no file is in any more; all of them if the keys change. One whose files could not
/// be read is not gone.
fn gone(
    table: &TableState,
    wanted: &Definition,
    unread: &BTreeSet<String>,
    rekeyed: bool,
) -> Result<Vec<PartitionValues>> {
    let present: BTreeSet<&PartitionValues> = wanted.partitions.iter().map(|partition| &partition.values).collect();
    let index = table.partitions();
    let rows = index.select(&Domains::all())?;
    let gone = index.partitions(&rows).filter(|partition| {
        let elsewhere = matches!(partition.location, PartitionLocation::At(_));
        rekeyed
            || !(elsewhere || present.contains(&partition.values) || any_below(unread, &partition.path(table.def())))
    });
    Ok(gone.map(|partition| partition.values).collect())
}

fn any_below(paths: &BTreeSet<String>, folder: &str) -> bool {
    let folder = format!("{folder}/");
    paths.range(folder.clone()..).next().is_some_and(|path| path.starts_with(&folder))
}

/// Properties are a person's; everything else is the files'.
fn same(known: &PartitionDef, found: &PartitionDef) -> bool {
    known.location == found.location && known.statistics == found.statistics
}

fn keep_comments(def: &mut TableDef, present: &TableDef) {
    for column in def.columns.iter_mut().chain(&mut def.partition_keys) {
        let known = present.columns.iter().chain(&present.partition_keys).find(|known| known.name == column.name);
        column.comment = known.and_then(|known| known.comment.clone());
    }
}

fn planned(wanted: Definition, outcome: Outcome) -> PlannedTable {
    PlannedTable {
        database: wanted.def.database,
        name: wanted.def.name,
        location: wanted.def.location,
        format: wanted.def.format,
        columns: wanted.def.columns,
        partition_keys: wanted.def.partition_keys,
        files: wanted.files,
        bytes: wanted.total.bytes.unwrap_or(0),
        rows: wanted.total.rows,
        partitions: wanted.partitions.len(),
        partitions_new: 0,
        partitions_changed: 0,
        partitions_gone: 0,
        outcome,
        reasons: wanted.reasons,
    }
}
