//! What every [`Metastore`] must do, as functions to run on an empty one: the suite that each implementation's tests call.
//!
//! Each function answers `Ok` or an error of kind `Internal` that names the broken promise; it takes a fresh, empty store.

use std::sync::Arc;

use futures::future::try_join_all;

use crate::{
    Change, Column, Database, Domain, Domains, Error, ErrorKind, Expect, Format, HiveType, Metastore, PartitionDef,
    Result, SNAPSHOTS_KEPT, TableDef,
};

fn ensure(holds: bool, promise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Internal, format!("broken promise: {promise}"))) }
}

fn ensure_kind<T>(outcome: Result<T>, kind: ErrorKind, promise: &str) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::Internal, format!("broken promise: {promise}")).with_source(error)),
        Ok(_) => ensure(false, promise),
    }
}

fn flights() -> TableDef {
    TableDef::new("Lake", "Flights", "/data/flights/", Format::Parquet)
        .with_columns([Column::new("Carrier", HiveType::String)])
        .with_partition_keys([Column::new("month", HiveType::Int), Column::new("day", HiveType::Int)])
}

fn days(month: u32, days: u32) -> Vec<PartitionDef> {
    (1..=days).map(|day| PartitionDef::of([month.to_string(), day.to_string()])).collect()
}

async fn with_table(store: &dyn Metastore) -> Result<Arc<TableDef>> {
    store.commit(Change::new().create_database(Database::new("lake")).create_table(flights())).await?;
    found(store).await
}

async fn found(store: &dyn Metastore) -> Result<Arc<TableDef>> {
    let table = store.table("lake", "flights").await?;
    table.ok_or_else(|| Error::new(ErrorKind::Internal, "broken promise: a created table is found"))
}

/// Runs every function on a store of its own. Dropping the future stops the suite.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn all<M: Metastore, F: AsyncFn() -> Result<M>>(fresh: F) -> Result<()> {
    names_are_lower_case(&fresh().await?).await?;
    what_is_wrong_is_refused_by_kind(&fresh().await?).await?;
    a_change_is_whole_or_not_at_all(&fresh().await?).await?;
    partitions_are_selected_by_domain(&fresh().await?).await?;
    a_reader_keeps_its_snapshot(&fresh().await?).await?;
    replacing_is_compare_and_swap(&fresh().await?).await?;
    partitions_stay_where_their_files_lie(&fresh().await?).await?;
    nothing_new_commits_nothing(&fresh().await?).await?;
    writers_at_once_lose_nothing(&fresh().await?).await
}

/// Names are kept and found in lower case, and a location without its outer slashes.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn names_are_lower_case(store: &dyn Metastore) -> Result<()> {
    let table = with_table(store).await?;
    ensure(store.databases().await? == ["lake"], "database names are lower-case")?;
    ensure(store.tables("LAKE").await? == ["flights"], "table names are lower-case")?;
    ensure(table.columns[0].name == "carrier", "column names are lower-case")?;
    ensure(table.location == "data/flights", "locations have no outer slash")?;
    ensure(store.table("lake", "FLIGHTS").await? == Some(Arc::clone(&table)), "tables are found whatever the case")?;
    ensure(table.version == 1 && table.created.is_some(), "the catalog sets version and times")?;
    ensure(store.table("lake", "trains").await?.is_none(), "a table that does not exist is none")?;
    ensure(store.table("sea", "flights").await?.is_none(), "a table of no database is none")
}

/// Wrong changes are refused by the kind that says what to do.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn what_is_wrong_is_refused_by_kind(store: &dyn Metastore) -> Result<()> {
    with_table(store).await?;
    let cases = [
        (Change::new().create_database(Database::new("LAKE")), ErrorKind::AlreadyExists, "a database exists once"),
        (Change::new().create_table(flights()), ErrorKind::AlreadyExists, "a table exists once"),
        (Change::new().drop_database("lake"), ErrorKind::Conflict, "a database with tables is not dropped"),
        (Change::new().drop_database("sea"), ErrorKind::NotFound, "what is not there is not dropped"),
        (Change::new().drop_table("lake", "trains"), ErrorKind::NotFound, "a missing table is not dropped"),
        (Change::new().create_database(Database::new("")), ErrorKind::InvalidInput, "a name is not empty"),
        (Change::new().create_database(Database::new("a/b")), ErrorKind::InvalidInput, "a name holds no slash"),
        (
            Change::new().add_partitions("lake", "flights", vec![PartitionDef::of(["1"])]),
            ErrorKind::InvalidInput,
            "a partition has one value for each key",
        ),
        (
            Change::new().add_partitions("lake", "flights", vec![PartitionDef::of(["1", "x"])]),
            ErrorKind::InvalidInput,
            "a partition's values are of their keys' types",
        ),
        (
            Change::new().drop_partitions("lake", "flights", vec![vec![Some("1".to_owned()), None]]),
            ErrorKind::NotFound,
            "a missing partition is not dropped",
        ),
        (
            Change::new().create_table(
                TableDef::new("sea", "t", "x", Format::Csv).with_columns([Column::new("a", HiveType::Int)]),
            ),
            ErrorKind::NotFound,
            "a table needs its database",
        ),
        (
            Change::new().create_table(
                TableDef::new("lake", "t", "../x", Format::Csv).with_columns([Column::new("a", HiveType::Int)]),
            ),
            ErrorKind::InvalidInput,
            "a location stays within its store",
        ),
    ];
    for (change, kind, promise) in cases {
        ensure_kind(store.commit(change).await, kind, promise)?;
    }
    ensure_kind(store.tables("sea").await, ErrorKind::NotFound, "the tables of no database are not found")
}

/// A change whose last action fails leaves nothing behind.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn a_change_is_whole_or_not_at_all(store: &dyn Metastore) -> Result<()> {
    let table = with_table(store).await?;
    let change = Change::new()
        .create_database(Database::new("sea"))
        .add_partitions("lake", "flights", days(1, 3))
        .drop_table("lake", "trains");
    ensure_kind(store.commit(change).await, ErrorKind::NotFound, "a change fails by its failing action")?;
    ensure(store.databases().await? == ["lake"], "a failed change creates no database")?;
    ensure(found(store).await? == table, "a failed change touches no table")?;
    ensure(store.select(&table, &Domains::all()).await?.total == 0, "a failed change adds no partition")
}

/// Selecting prunes by typed domains, keeps the order of the keys, and counts all.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn partitions_are_selected_by_domain(store: &dyn Metastore) -> Result<()> {
    with_table(store).await?;
    let mut partitions = days(1, 31);
    partitions.extend(days(11, 30));
    partitions.push(PartitionDef::new([Some("2"), None]));
    store.commit(Change::new().add_partitions("lake", "flights", partitions)).await?;
    let table = found(store).await?;
    let select = async |column: &str, domain: Domain| store.select(&table, &Domains::all().with(column, domain)).await;

    let second = select("DAY", Domain::equal(2_i64)).await?;
    let values: Vec<_> = second.partitions.iter().map(|partition| partition.name(&table)).collect();
    ensure(values == ["month=1/day=2", "month=11/day=2"], "equality selects by value, in the order of the keys")?;
    ensure(second.total == 62, "a selection counts all partitions")?;
    ensure(select("day", Domain::null()).await?.partitions.len() == 1, "NULL is selected as NULL")?;
    ensure(select("month", Domain::none()).await?.partitions.is_empty(), "nothing selects nothing")?;
    ensure(
        select("carrier", Domain::none()).await?.partitions.len() == 62,
        "domains of other columns are left to the reader",
    )?;
    let range = Domain::range(std::ops::Bound::Included(9_i64.into()), std::ops::Bound::Unbounded);
    ensure(select("month", range).await?.partitions.len() == 30, "ranges compare numbers as numbers")?;
    ensure_kind(select("month", Domain::equal("1")).await, ErrorKind::InvalidInput, "a domain is of its key's type")
}

/// A table in hand selects what it selected when it was read, until that is no longer kept, and then says so.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn a_reader_keeps_its_snapshot(store: &dyn Metastore) -> Result<()> {
    let empty = with_table(store).await?;
    store.commit(Change::new().add_partitions("lake", "flights", days(1, 3))).await?;
    let three = found(store).await?;
    ensure(
        three.snapshot > empty.snapshot && three.version == empty.version,
        "partitions move the snapshot, not the version",
    )?;
    store
        .commit(Change::new().drop_partitions("lake", "flights", vec![vec![Some("1".into()), Some("2".into())]]))
        .await?;
    ensure(store.select(&empty, &Domains::all()).await?.partitions.is_empty(), "a snapshot does not grow")?;
    ensure(store.select(&three, &Domains::all()).await?.partitions.len() == 3, "a snapshot does not shrink")?;
    for month in 2..=u32::try_from(SNAPSHOTS_KEPT).unwrap_or(u32::MAX) + 2 {
        store.commit(Change::new().add_partitions("lake", "flights", days(month, 1))).await?;
    }
    ensure_kind(store.select(&empty, &Domains::all()).await, ErrorKind::Expired, "an old snapshot expires by kind")?;
    store.commit(Change::new().drop_table("lake", "flights")).await?;
    ensure_kind(store.select(&three, &Domains::all()).await, ErrorKind::NotFound, "a dropped table is not found")
}

/// Of two who replace the same version one wins; preconditions refuse what was touched.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn replacing_is_compare_and_swap(store: &dyn Metastore) -> Result<()> {
    let first = with_table(store).await?;
    let mine = TableDef::clone(&first).with_property("writer", "me");
    let theirs = TableDef::clone(&first).with_property("writer", "they");
    store.commit(Change::new().replace_table(theirs)).await?;
    ensure_kind(
        store.commit(Change::new().replace_table(mine)).await,
        ErrorKind::Conflict,
        "a stale replace is refused",
    )?;
    let now = found(store).await?;
    ensure(now.version == 2 && now.properties["writer"] == "they", "the first replace stays")?;
    ensure(now.created == first.created, "replacing keeps when the table was created")?;

    let (database, name) = ("lake".to_owned(), "flights".to_owned());
    let expects = [
        Expect::NoTable { database: database.clone(), name: name.clone() },
        Expect::TableVersion { database: database.clone(), name: name.clone(), version: first.version },
        Expect::TableSnapshot { database, name, snapshot: first.snapshot },
    ];
    for expect in expects {
        let change = Change::new().expecting(expect).add_partitions("lake", "flights", days(1, 1));
        ensure_kind(
            store.commit(change).await,
            ErrorKind::Conflict,
            "a precondition that no longer holds is a conflict",
        )?;
    }
    let rekeyed = TableDef::clone(&now).with_partition_keys([Column::new("month", HiveType::Int)]);
    store.commit(Change::new().add_partitions("lake", "flights", days(1, 1))).await?;
    ensure_kind(
        store.commit(Change::new().replace_table(rekeyed)).await,
        ErrorKind::InvalidInput,
        "keys do not vanish under partitions",
    )
}

/// A table that moves, and keys that are renamed, leave the partitions that there are where they lie.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn partitions_stay_where_their_files_lie(store: &dyn Metastore) -> Result<()> {
    with_table(store).await?;
    store.commit(Change::new().add_partitions("lake", "flights", days(1, 1))).await?;
    let keys = [Column::new("m", HiveType::Int), Column::new("day", HiveType::Int)];
    let (mut moved, mut back) = (flights(), flights().with_partition_keys(keys.clone()));
    moved.location = "data/flights/new".to_owned();
    back.location = "data".to_owned();
    for (table, place) in [
        (flights().with_partition_keys(keys), "data/flights/month=1/day=1"),
        (moved, "data/flights/month=1/day=1"),
        (back, "data/flights/month=1/day=1"),
        (flights(), "data/flights/month=1/day=1"),
    ] {
        store.commit(Change::new().replace_table(table)).await?;
        let table = found(store).await?;
        let selection = store.select(&table, &Domains::all()).await?;
        let places: Vec<_> = selection.partitions.iter().map(|partition| partition.path(&table)).collect();
        ensure(places == [place], "a partition stays where its files lie when the table is redefined")?;
    }
    store.commit(Change::new().add_partitions("lake", "flights", days(2, 1))).await?;
    let table = found(store).await?;
    let selection = store.select(&table, &Domains::all()).await?;
    let places: Vec<_> = selection.partitions.iter().map(|partition| partition.path(&table)).collect();
    ensure(
        places == ["data/flights/month=1/day=1", "data/flights/month=2/day=1"],
        "a new partition lies by the present definition",
    )
}

/// A change that changes nothing does not move the catalog's number.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn nothing_new_commits_nothing(store: &dyn Metastore) -> Result<()> {
    let table = with_table(store).await?;
    let number = store.commit(Change::new().put_partitions("lake", "flights", days(1, 3))).await?;
    let again = Change::new()
        .put_partitions("lake", "flights", days(1, 3))
        .replace_table(TableDef { version: 0, ..TableDef::clone(&table) });
    ensure(store.commit(again).await? == number, "putting what is there commits nothing")?;
    ensure(store.commit(Change::new()).await? == number, "an empty change commits nothing")?;
    let next = store.commit(Change::new().put_partitions("lake", "flights", days(2, 1))).await?;
    ensure(next == number + 1, "numbers have no gaps")
}

/// Writers at the same time on the same table all get through when they touch different things.
///
/// # Errors
///
/// `Internal` names the broken promise.
pub async fn writers_at_once_lose_nothing(store: &dyn Metastore) -> Result<()> {
    with_table(store).await?;
    let writers = (1..=8_u32).map(async |month| {
        for partition in days(month, 5) {
            store.commit(Change::new().add_partitions("lake", "flights", vec![partition])).await?;
        }
        Ok::<_, Error>(())
    });
    try_join_all(writers).await?;
    let table = found(store).await?;
    ensure(store.select(&table, &Domains::all()).await?.total == 40, "no writer's commit is lost")
}
