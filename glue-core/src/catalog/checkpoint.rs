//! Checkpoints: the whole state after some commit, so that opening does not follow history.
//!
//! An object of JSON lines named by the commit's number, 20 digits:
//!
//! | line | holds |
//! |---|---|
//! | `{"format":1,"number":n}` | first |
//! | `{"database":...}` | before its tables |
//! | `{"table":...,"former":[...]}` | definition and former ones, oldest first; before its partitions |
//! | `{"partitions":[...]}` | up to 1,000 partitions of the table before: values and what differs, never the schema |
//! | `{"lines":l,"crc32c":c}` | last: how many lines came before, and the CRC32C of their bytes |
//!
//! Invariant: a checkpoint that is not whole is not read: it is `Corrupt`, and never half a catalog.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use table_core::{CatalogState, Database, Domains, ErrorKind, PartitionDef, TableDef, TableState};

use crate::{Error, Result};

const FORMAT: u32 = 1;
const PARTITIONS_PER_LINE: usize = 1000;
/// How many checkpoints stay: a reader may be opening the one before the newest.
const CHECKPOINTS_KEPT: usize = 2;

#[derive(Debug)]
pub(super) struct Checkpoints {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Head { format: u32, number: u64 },
    Database { database: Database },
    Table { table: TableDef, former: Vec<TableDef> },
    Partitions { partitions: Vec<PartitionDef> },
    End { lines: u64, crc32c: u32 },
}

impl Checkpoints {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    /// The newest state after more than `than` commits.
    pub(super) async fn newest(&self, than: u64) -> Result<Option<CatalogState>> {
        loop {
            let Some(number) = self.numbers().await?.pop().filter(|number| *number > than) else { return Ok(None) };
            let path = self.path(number);
            match self.store.get(&path).await {
                Ok(found) => return decode(&found.bytes().await?, &path).map(Some),
                // Deleted since it was listed: there is a newer one.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) async fn write(&self, state: &CatalogState) -> Result<()> {
        self.store.put(&self.path(state.number()), encode(state)?.into()).await?;
        let mut numbers = self.numbers().await?;
        numbers.truncate(numbers.len().saturating_sub(CHECKPOINTS_KEPT));
        for number in numbers {
            match self.store.delete(&self.path(number)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn numbers(&self) -> Result<Vec<u64>> {
        let listed: Vec<_> = self.store.list(Some(&self.prefix)).try_collect().await?;
        let mut numbers: Vec<u64> =
            listed.iter().filter_map(|object| object.location.filename()?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u64) -> Path {
        self.prefix.clone().join(format!("{number:020}"))
    }
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
}

impl Lines {
    fn push(&mut self, line: &Line) -> Result<()> {
        let written = serde_json::to_writer(&mut self.text, line);
        written
            .map_err(|error| Error::new(ErrorKind::Internal, "a checkpoint was not serialised").with_source(error))?;
        self.text.push(b'\n');
        self.count += 1;
        Ok(())
    }
}

fn encode(state: &CatalogState) -> Result<Vec<u8>> {
    let mut lines = Lines::default();
    lines.push(&Line::Head { format: FORMAT, number: state.number() })?;
    for database in state.databases() {
        lines.push(&Line::Database { database: database.clone() })?;
        for table in state.tables(&database.name)? {
            encode_table(table, &mut lines)?;
        }
    }
    let crc32c = crc32c::crc32c(&lines.text);
    lines.push(&Line::End { lines: lines.count, crc32c })?;
    Ok(lines.text)
}

fn encode_table(table: &TableState, lines: &mut Lines) -> Result<()> {
    let mut former: Vec<TableDef> = table.versions().skip(1).map(|def| TableDef::clone(def)).collect();
    former.reverse();
    lines.push(&Line::Table { table: TableDef::clone(table.def()), former })?;
    let index = table.partitions();
    let rows = index.select(&Domains::all())?;
    let mut partitions = index.partitions(&rows);
    loop {
        let some: Vec<PartitionDef> = partitions.by_ref().take(PARTITIONS_PER_LINE).collect();
        if some.is_empty() {
            return Ok(());
        }
        lines.push(&Line::Partitions { partitions: some })?;
    }
}

fn decode(bytes: &[u8], path: &Path) -> Result<CatalogState> {
    let corrupt = |what: &str| {
        Error::new(ErrorKind::Corrupt, format!("checkpoint \"{path}\" {what}: delete it, the one before it serves"))
    };
    let whole = bytes.strip_suffix(b"\n").ok_or_else(|| corrupt("is cut short"))?;
    let split = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (body, end) = whole.split_at(split);
    match serde_json::from_slice(end) {
        Ok(Line::End { crc32c, .. }) if crc32c == crc32c::crc32c(body) => {}
        _ => return Err(corrupt("is damaged")),
    }
    let mut decoder = Decoder::default();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = serde_json::from_slice(line).map_err(|error| corrupt("holds an unknown line").with_source(error))?;
        decoder.take(line).map_err(|error| corrupt("does not add up").with_source(error))?;
    }
    decoder.finish()
}

#[derive(Default)]
struct Decoder {
    number: u64,
    databases: Vec<(Database, Vec<TableState>)>,
    table: Option<(TableDef, Vec<TableDef>, Vec<PartitionDef>)>,
}

impl Decoder {
    fn take(&mut self, line: Line) -> Result<()> {
        let misplaced = || Error::new(ErrorKind::Corrupt, "a line is out of place");
        match line {
            Line::Head { format: FORMAT, number } => self.number = number,
            Line::Head { format, .. } => {
                let message = format!("the format is {format}, this version reads {FORMAT}: upgrade it");
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            Line::Database { database } => {
                self.end_table()?;
                self.databases.push((database, Vec::new()));
            }
            Line::Table { table, former } => {
                self.end_table()?;
                self.table = Some((table, former, Vec::new()));
            }
            Line::Partitions { partitions } => self.table.as_mut().ok_or_else(misplaced)?.2.extend(partitions),
            Line::End { .. } => return Err(misplaced()),
        }
        Ok(())
    }

    fn end_table(&mut self) -> Result<()> {
        if let Some((def, former, partitions)) = self.table.take() {
            let (_, tables) =
                self.databases.last_mut().ok_or_else(|| Error::new(ErrorKind::Corrupt, "a table has no database"))?;
            tables.push(TableState::restore(def, former, partitions)?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<CatalogState> {
        self.end_table()?;
        Ok(CatalogState::restore(self.number, self.databases))
    }
}
