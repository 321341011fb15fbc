//! The catalog as a pure state machine: `apply` takes a change and gives the next state, or says why not.
//!
//! Invariant: the same changes at the same times give the same state, on every machine; states share what they have in
//! common, so keeping one or cloning one is cheap. Numbers rise by one per change that changed something.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use durable_core::ErrorKind;

use super::Selection;
use super::change::{Action, Change, Database, Expect};
use crate::name::normalize;
use crate::{Domains, Error, PartitionDef, PartitionIndex, PartitionValues, Result, TableDef};

/// How many former definitions of a table are kept.
pub const VERSIONS_KEPT: usize = 1000;

/// How many former snapshots of a table's partitions can still be selected from.
pub const SNAPSHOTS_KEPT: usize = 64;

/// A whole catalog at one moment.
#[derive(Clone, Debug, Default)]
pub struct CatalogState {
    number: u64,
    databases: BTreeMap<String, Arc<DatabaseState>>,
}

#[derive(Clone, Debug)]
struct DatabaseState {
    database: Database,
    tables: BTreeMap<String, Arc<TableState>>,
}

/// A table at one moment: its definition, its former ones, its partitions.
#[derive(Clone, Debug)]
pub struct TableState {
    def: Arc<TableDef>,
    former: VecDeque<Arc<TableDef>>,
    partitions: PartitionIndex,
    snapshots: VecDeque<(u64, PartitionIndex)>,
}

impl TableState {
    /// A table as a checkpoint has it; `former` from oldest to newest.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the partitions do not fit the definition.
    pub fn restore(def: TableDef, former: Vec<TableDef>, partitions: Vec<PartitionDef>) -> Result<Self> {
        let partitions = PartitionIndex::build(&def.partition_keys, partitions)?;
        let former = former.into_iter().map(Arc::new).collect();
        Ok(Self { def: Arc::new(def), former, partitions, snapshots: VecDeque::new() })
    }

    /// The present definition.
    #[must_use]
    pub fn def(&self) -> &Arc<TableDef> {
        &self.def
    }

    /// The present definition and, newest first, the former ones that are kept.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        std::iter::once(&self.def).chain(self.former.iter().rev())
    }

    /// The present partitions.
    #[must_use]
    pub fn partitions(&self) -> &PartitionIndex {
        &self.partitions
    }

    /// The partitions as of a snapshot.
    ///
    /// # Errors
    ///
    /// `Expired` if it is not kept any more.
    pub fn partitions_at(&self, snapshot: u64) -> Result<&PartitionIndex> {
        if snapshot == self.def.snapshot {
            return Ok(&self.partitions);
        }
        let kept = self.snapshots.iter().find(|(number, _)| *number == snapshot);
        kept.map(|(_, partitions)| partitions).ok_or_else(|| {
            let (database, name) = (&self.def.database, &self.def.name);
            Error::new(
                ErrorKind::Expired,
                format!("snapshot {snapshot} of table \"{database}.{name}\" is not kept: get the table again"),
            )
        })
    }

    fn touch(&mut self, number: u64, partitions: PartitionIndex) {
        if self.def.snapshot != number {
            let before = std::mem::replace(&mut self.partitions, partitions);
            self.snapshots.push_back((self.def.snapshot, before));
            if self.snapshots.len() > SNAPSHOTS_KEPT {
                self.snapshots.pop_front();
            }
            Arc::make_mut(&mut self.def).snapshot = number;
        } else {
            self.partitions = partitions;
        }
    }
}

impl CatalogState {
    /// The state that a checkpoint holds.
    #[must_use]
    pub fn restore(number: u64, databases: Vec<(Database, Vec<TableState>)>) -> Self {
        let databases = databases.into_iter().map(|(database, tables)| {
            let tables = tables.into_iter().map(|table| (table.def.name.clone(), Arc::new(table))).collect();
            (database.name.clone(), Arc::new(DatabaseState { database, tables }))
        });
        Self { number, databases: databases.collect() }
    }

    /// How many changes made it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// All databases, by name.
    pub fn databases(&self) -> impl Iterator<Item = &Database> {
        self.databases.values().map(|state| &state.database)
    }

    /// One database.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(&name.to_lowercase()).map(|state| &state.database)
    }

    /// The tables of a database, by name.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such database.
    pub fn tables(&self, database: &str) -> Result<impl Iterator<Item = &Arc<TableState>>> {
        let state = self.databases.get(&database.to_lowercase()).ok_or_else(|| no_database(database))?;
        Ok(state.tables.values())
    }

    /// One table.
    #[must_use]
    pub fn table(&self, database: &str, name: &str) -> Option<&Arc<TableState>> {
        self.databases.get(&database.to_lowercase())?.tables.get(&name.to_lowercase())
    }

    /// Partitions of a table as of its snapshot.
    ///
    /// # Errors
    ///
    /// As [`Metastore::select`](crate::Metastore::select).
    pub fn select(&self, table: &TableDef, domains: &Domains) -> Result<Selection> {
        let found = self.table(&table.database, &table.name).ok_or_else(|| no_table(&table.database, &table.name))?;
        let index = found.partitions_at(table.snapshot)?;
        let rows = index.select(domains)?;
        Ok(Selection::new(index.partitions(&rows).collect(), index.len()))
    }

    /// The next state, stamped `at`, or `None` if the change changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Metastore::commit`](crate::Metastore::commit); the present state is untouched.
    pub fn apply(&self, change: &Change, at: DateTime<Utc>) -> Result<Option<Self>> {
        for expect in change.expects() {
            self.check(expect)?;
        }
        let mut next = Self { number: self.number + 1, databases: self.databases.clone() };
        let mut changed = false;
        for action in change.actions() {
            changed |= next.perform(action, at)?;
        }
        Ok(changed.then_some(next))
    }

    fn check(&self, expect: &Expect) -> Result<()> {
        match expect {
            Expect::NoTable { database, name } => match self.table(database, name) {
                None => Ok(()),
                Some(_) => Err(conflict(database, name, "exists by now")),
            },
            Expect::TableVersion { database, name, version } => {
                let found = self.table(database, name).map_or(0, |table| table.def.version);
                if found == *version {
                    Ok(())
                } else {
                    Err(conflict(database, name, &format!("is at version {found}, not {version}")))
                }
            }
            Expect::TableSnapshot { database, name, snapshot } => {
                let found = self.table(database, name).map_or(0, |table| table.def.snapshot);
                if found == *snapshot {
                    Ok(())
                } else {
                    Err(conflict(database, name, &format!("was touched by commit {found}, after {snapshot}")))
                }
            }
        }
    }

    fn perform(&mut self, action: &Action, at: DateTime<Utc>) -> Result<bool> {
        match action {
            Action::CreateDatabase { database } => self.create_database(database),
            Action::DropDatabase { name } => self.drop_database(name),
            Action::CreateTable { table } => self.create_table(table, at),
            Action::ReplaceTable { table } => self.replace_table(table, at),
            Action::DropTable { database, name } => self.drop_table(database, name),
            Action::AddPartitions { database, table, partitions } => {
                self.put_partitions(database, table, partitions, false)
            }
            Action::PutPartitions { database, table, partitions } => {
                self.put_partitions(database, table, partitions, true)
            }
            Action::DropPartitions { database, table, values } => self.drop_partitions(database, table, values),
        }
    }

    fn create_database(&mut self, database: &Database) -> Result<bool> {
        let name = normalize("database", &database.name)?;
        if self.databases.contains_key(&name) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("database \"{name}\" already exists")));
        }
        let database = Database { name: name.clone(), ..database.clone() };
        self.databases.insert(name, Arc::new(DatabaseState { database, tables: BTreeMap::new() }));
        Ok(true)
    }

    fn drop_database(&mut self, name: &str) -> Result<bool> {
        let key = name.to_lowercase();
        let state = self.databases.get(&key).ok_or_else(|| no_database(name))?;
        if let Some(table) = state.tables.keys().next() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("database \"{name}\" still holds table \"{table}\": drop it first"),
            ));
        }
        self.databases.remove(&key);
        Ok(true)
    }

    fn create_table(&mut self, table: &TableDef, at: DateTime<Utc>) -> Result<bool> {
        let def =
            TableDef { version: 1, snapshot: self.number, created: Some(at), updated: Some(at), ..table.normalized()? };
        let state = self.databases.get_mut(&def.database).ok_or_else(|| no_database(&def.database))?;
        if state.tables.contains_key(&def.name) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("table \"{}.{}\" already exists", def.database, def.name),
            ));
        }
        let partitions = PartitionIndex::empty(&def.partition_keys);
        let name = def.name.clone();
        let table = TableState { def: Arc::new(def), former: VecDeque::new(), partitions, snapshots: VecDeque::new() };
        Arc::make_mut(state).tables.insert(name, Arc::new(table));
        Ok(true)
    }

    fn replace_table(&mut self, table: &TableDef, at: DateTime<Utc>) -> Result<bool> {
        let number = self.number;
        let def = table.normalized()?;
        let state = self.table_mut(&def.database, &def.name)?;
        let present = Arc::clone(&state.def);
        if table.version != 0 && table.version != present.version {
            let found = present.version;
            return Err(conflict(&def.database, &def.name, &format!("is at version {found}, not {}", table.version)));
        }
        if present.same_definition(&def) {
            return Ok(false);
        }
        let partitions = rehomed(&state.partitions, &present, &def)?;
        state.former.push_back(Arc::clone(&present));
        if state.former.len() > VERSIONS_KEPT {
            state.former.pop_front();
        }
        state.touch(number, partitions);
        let version = present.version + 1;
        state.def =
            Arc::new(TableDef { version, snapshot: number, created: present.created, updated: Some(at), ..def });
        Ok(true)
    }

    fn drop_table(&mut self, database: &str, name: &str) -> Result<bool> {
        let state = self.databases.get_mut(&database.to_lowercase()).ok_or_else(|| no_database(database))?;
        match Arc::make_mut(state).tables.remove(&name.to_lowercase()) {
            Some(_) => Ok(true),
            None => Err(no_table(database, name)),
        }
    }

    fn put_partitions(
        &mut self,
        database: &str,
        table: &str,
        partitions: &[PartitionDef],
        replace: bool,
    ) -> Result<bool> {
        let number = self.number;
        let state = self.table_mut(database, table)?;
        let mut puts = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let partition = partition.normalized(&state.def)?;
            match state.partitions.find(&partition.values)? {
                Some(_) if !replace => {
                    let name = partition.name(&state.def);
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("partition \"{name}\" of table \"{database}.{table}\" already exists"),
                    ));
                }
                Some(same) if same == partition => {}
                _ => puts.push(partition),
            }
        }
        if puts.is_empty() {
            return Ok(false);
        }
        let index = state.partitions.apply(puts, &[])?;
        state.touch(number, index);
        Ok(true)
    }

    fn drop_partitions(&mut self, database: &str, table: &str, values: &[PartitionValues]) -> Result<bool> {
        let number = self.number;
        let state = self.table_mut(database, table)?;
        for values in values {
            if state.partitions.find(values)?.is_none() {
                let name = PartitionDef::new(values.clone()).name(&state.def);
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("partition \"{name}\" of table \"{database}.{table}\" does not exist"),
                ));
            }
        }
        if values.is_empty() {
            return Ok(false);
        }
        let index = state.partitions.apply([], values)?;
        state.touch(number, index);
        Ok(true)
    }

    fn table_mut(&mut self, database: &str, name: &str) -> Result<&mut TableState> {
        let state = self.databases.get_mut(&database.to_lowercase()).ok_or_else(|| no_database(database))?;
        let table =
            Arc::make_mut(state).tables.get_mut(&name.to_lowercase()).ok_or_else(|| no_table(database, name))?;
        Ok(Arc::make_mut(table))
    }
}

/// The partitions under a new definition, which may move the table and rename and retype its keys, but not add or remove
/// one. Each stays where its files lie, as in Glue, where a partition has a location of its own.
fn rehomed(partitions: &PartitionIndex, present: &TableDef, def: &TableDef) -> Result<PartitionIndex> {
    if partitions.is_empty() {
        return Ok(PartitionIndex::empty(&def.partition_keys));
    }
    if partitions.keys() == def.partition_keys && present.location == def.location {
        return Ok(partitions.clone());
    }
    if partitions.keys().len() != def.partition_keys.len() {
        return Err(Error::invalid(format!(
            "table \"{}.{}\" has {} partitions of {} keys: drop them before the number of keys changes",
            def.database,
            def.name,
            partitions.len(),
            partitions.keys().len()
        )));
    }
    let rows = partitions.select(&Domains::all())?;
    let rehomed = partitions.partitions(&rows).map(|partition| partition.rehomed(present, def));
    PartitionIndex::build(&def.partition_keys, rehomed)
}

fn no_database(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("database \"{name}\" does not exist"))
}

fn no_table(database: &str, name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("table \"{database}.{name}\" does not exist"))
}

fn conflict(database: &str, name: &str, what: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("table \"{database}.{name}\" {what}: read it again and decide again"))
}
