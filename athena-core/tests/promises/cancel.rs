//! A stopped query stops reading, leaves no result object, and gives its place back.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};

use async_trait::async_trait;
use athena_core::{Athena, QueryState};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use table_core::{Change, Domains, MemoryMetastore, Metastore, Selection, TableDef};
use tokio::sync::Semaphore;

use crate::counting_store::CountingStore;
use crate::lake::{Lake, in_lake, texts};

struct Gated {
    lake: Lake,
    athena: Athena,
    counting: Arc<CountingStore>,
    gate: Arc<Semaphore>,
}

/// Reads of `events` go on only as the gate lets them.
async fn gated() -> Gated {
    let lake = Lake::with_events().await;
    let gate = Arc::new(Semaphore::new(0));
    let counting = Arc::new(CountingStore::gated(Arc::clone(&lake.store), "lake/events", Arc::clone(&gate)));
    let builder = lake.builder().data_store(Arc::clone(&counting) as _);
    let athena = builder.with_queries_running_max(1).build().unwrap();
    Gated { lake, athena, counting, gate }
}

async fn objects(lake: &Lake, id: athena_core::QueryExecutionId) -> Vec<String> {
    let all: Vec<_> = lake.store.list(Some(&Path::from("results"))).try_collect().await.unwrap();
    let names = all.iter().map(|object| object.location.filename().unwrap().to_owned());
    names.filter(|name| name.starts_with(&id.to_string())).collect()
}

#[tokio::test]
async fn a_running_query_stops_and_leaves_only_its_record() {
    let Gated { lake, athena, counting, gate } = gated().await;
    for permits in [0, 1, 5, 20] {
        let id = athena.start(in_lake("select * from events")).await.unwrap();
        gate.add_permits(permits);
        let execution = athena.stop(id).await.unwrap();
        assert_eq!(execution.state, QueryState::Cancelled);
        assert_eq!(objects(&lake, id).await, [format!("{id}.json")]);
        assert_eq!(athena.stop(id).await.unwrap(), execution, "stopping again changes nothing");
        // With the place given back another query can run, and what was cancelled reads nothing more.
        counting.take();
        texts(&athena, "select count(*) from flat").await;
        let gets = counting.gets.load(Ordering::SeqCst);
        gate.add_permits(1000);
        texts(&athena, "select 1").await;
        assert_eq!(counting.gets.load(Ordering::SeqCst), gets);
        gate.forget_permits(usize::MAX >> 4);
    }
}

/// A catalog that holds its thread until it is let go, as planning a long statement does.
#[derive(Debug)]
struct Busy {
    catalog: Arc<MemoryMetastore>,
    entered: Semaphore,
    let_go: Mutex<mpsc::Receiver<()>>,
}

#[async_trait]
impl Metastore for Busy {
    async fn databases(&self) -> table_core::Result<Vec<String>> {
        self.catalog.databases().await
    }

    async fn tables(&self, database: &str) -> table_core::Result<Vec<String>> {
        self.catalog.tables(database).await
    }

    async fn table(&self, database: &str, name: &str) -> table_core::Result<Option<Arc<TableDef>>> {
        self.entered.add_permits(1);
        self.let_go.lock().unwrap().recv().unwrap();
        self.catalog.table(database, name).await
    }

    async fn select(&self, table: &TableDef, domains: &Domains) -> table_core::Result<Selection> {
        self.catalog.select(table, domains).await
    }

    async fn commit(&self, change: Change) -> table_core::Result<u64> {
        self.catalog.commit(change).await
    }
}

#[tokio::test]
async fn a_query_that_is_planned_hears_the_stop_and_keeps_its_turn() {
    let lake = Lake::with_events().await;
    let (let_go, receiver) = mpsc::channel();
    let catalog = Arc::clone(&lake.catalog);
    let busy = Arc::new(Busy { catalog, entered: Semaphore::new(0), let_go: Mutex::new(receiver) });
    let builder = lake.builder().metastore(Arc::clone(&busy) as _).with_threads(1).with_queries_running_max(1);
    let athena = builder.build().unwrap();
    let id = athena.start(in_lake("select * from events")).await.unwrap();
    busy.entered.acquire().await.unwrap().forget();
    assert_eq!(athena.stop(id).await.unwrap().state, QueryState::Cancelled);
    let next = athena.start(in_lake("select 1")).await.unwrap();
    assert_eq!(athena.query_execution(next).await.unwrap().state, QueryState::Queued);
    let_go.send(()).unwrap();
    assert_eq!(athena.wait(next).await.unwrap().state, QueryState::Succeeded);
}

#[tokio::test]
async fn a_queued_query_is_cancelled_without_running() {
    let Gated { athena, gate, .. } = gated().await;
    let running = athena.start(in_lake("select * from events")).await.unwrap();
    let queued = athena.start(in_lake("select 1")).await.unwrap();
    let execution = athena.stop(queued).await.unwrap();
    assert_eq!((execution.state, execution.statistics.rows), (QueryState::Cancelled, 0));
    gate.add_permits(1000);
    assert_eq!(athena.wait(running).await.unwrap().state, QueryState::Succeeded);
}

#[tokio::test]
async fn dropping_a_stream_cancels_its_query() {
    let lake = Lake::with_events().await;
    let athena = lake.athena();
    let mut stream = athena.stream(in_lake("select a.id from flat a, flat b, flat c")).await.unwrap();
    let id = stream.id();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    drop(stream);
    assert_eq!(athena.wait(id).await.unwrap().state, QueryState::Cancelled);
}

#[tokio::test]
async fn dropping_the_last_handle_stops_everything_without_blocking() {
    let Gated { lake, athena, counting, gate } = gated().await;
    let id = athena.start(in_lake("select * from events")).await.unwrap();
    drop(athena);
    gate.add_permits(1);
    // Who has let go of the store reads nothing more.
    while Arc::strong_count(&counting) > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(objects(&lake, id).await, [format!("{id}.json")]);
}
