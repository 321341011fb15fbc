//! One commit's worth of typed actions, with what they rely on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{PartitionDef, PartitionValues, TableDef};

/// A database: a name for a set of tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Database {
    /// Lower-case.
    pub name: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Prefix that new tables lie under by default, within the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

impl Database {
    /// A database with nothing but a name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The same with a comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The same with a location.
    #[must_use]
    pub fn with_location(mut self, location: impl AsRef<str>) -> Self {
        self.location = Some(location.as_ref().trim_matches('/').to_owned());
        self
    }
}

/// What a change does, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// `AlreadyExists` if it does.
    CreateDatabase {
        /// The database.
        database: Database,
    },
    /// `NotFound` if it does not exist, `Conflict` if it holds tables.
    DropDatabase {
        /// Its name.
        name: String,
    },
    /// `AlreadyExists` if it does, `NotFound` without its database.
    CreateTable {
        /// The table; its version and times are set by the catalog.
        table: Box<TableDef>,
    },
    /// `NotFound` if it does not exist, `Conflict` if `table.version` is neither 0 nor the present one. Partitions stay where
    /// their files lie, whatever becomes of the table's location and the names of its keys.
    ReplaceTable {
        /// The new definition.
        table: Box<TableDef>,
    },
    /// Drops the table with its partitions and its versions; files stay. `NotFound` if it does not exist.
    DropTable {
        /// Its database.
        database: String,
        /// Its name.
        name: String,
    },
    /// `AlreadyExists` if one of them does.
    AddPartitions {
        /// The table's database.
        database: String,
        /// The table.
        table: String,
        /// The partitions.
        partitions: Vec<PartitionDef>,
    },
    /// Adds, or replaces what has the same values.
    PutPartitions {
        /// The table's database.
        database: String,
        /// The table.
        table: String,
        /// The partitions.
        partitions: Vec<PartitionDef>,
    },
    /// `NotFound` if one of them does not exist.
    DropPartitions {
        /// The table's database.
        database: String,
        /// The table.
        table: String,
        /// The values of each.
        values: Vec<PartitionValues>,
    },
}

/// What a change relies on; `Conflict` if it is not so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "expect", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Expect {
    /// There is no such table.
    NoTable {
        /// Its database.
        database: String,
        /// Its name.
        name: String,
    },
    /// The table's definition is still this version.
    TableVersion {
        /// Its database.
        database: String,
        /// Its name.
        name: String,
        /// `TableDef::version`.
        version: u64,
    },
    /// Neither the table nor its partitions were touched since.
    TableSnapshot {
        /// Its database.
        database: String,
        /// Its name.
        name: String,
        /// `TableDef::snapshot`.
        snapshot: u64,
    },
}

/// A change to the catalog: applied whole or not at all by [`Metastore::commit`](crate::Metastore::commit).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    expect: Vec<Expect>,
    actions: Vec<Action>,
}

impl Change {
    /// A change of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more action.
    #[must_use]
    pub fn with(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    /// One more precondition, checked before the first action.
    #[must_use]
    pub fn expecting(mut self, expect: Expect) -> Self {
        self.expect.push(expect);
        self
    }

    /// Also creates a database.
    #[must_use]
    pub fn create_database(self, database: Database) -> Self {
        self.with(Action::CreateDatabase { database })
    }

    /// Also drops a database, which must be empty by then.
    #[must_use]
    pub fn drop_database(self, name: &str) -> Self {
        self.with(Action::DropDatabase { name: name.to_owned() })
    }

    /// Also creates a table.
    #[must_use]
    pub fn create_table(self, table: TableDef) -> Self {
        self.with(Action::CreateTable { table: Box::new(table) })
    }

    /// Also replaces a table's definition; it must still be at `table.version`, unless that is 0. Partitions stay where their
    /// files lie.
    #[must_use]
    pub fn replace_table(self, table: TableDef) -> Self {
        self.with(Action::ReplaceTable { table: Box::new(table) })
    }

    /// Also drops a table.
    #[must_use]
    pub fn drop_table(self, database: &str, name: &str) -> Self {
        self.with(Action::DropTable { database: database.to_owned(), name: name.to_owned() })
    }

    /// Also adds partitions, none of which may exist.
    #[must_use]
    pub fn add_partitions(self, database: &str, table: &str, partitions: Vec<PartitionDef>) -> Self {
        self.with(Action::AddPartitions { database: database.to_owned(), table: table.to_owned(), partitions })
    }

    /// Also adds or replaces partitions.
    #[must_use]
    pub fn put_partitions(self, database: &str, table: &str, partitions: Vec<PartitionDef>) -> Self {
        self.with(Action::PutPartitions { database: database.to_owned(), table: table.to_owned(), partitions })
    }

    /// Also drops partitions, all of which must exist.
    #[must_use]
    pub fn drop_partitions(self, database: &str, table: &str, values: Vec<PartitionValues>) -> Self {
        self.with(Action::DropPartitions { database: database.to_owned(), table: table.to_owned(), values })
    }

    /// What it does.
    #[must_use]
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// What it relies on.
    #[must_use]
    pub fn expects(&self) -> &[Expect] {
        &self.expect
    }

    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}
