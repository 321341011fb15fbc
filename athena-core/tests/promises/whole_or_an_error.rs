//! A result is whole, or an error says that it is not; what is not whole is not left behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use athena_core::{Athena, ErrorKind, PageRequest, QueryExecutionId, QueryState};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::Semaphore;

use crate::counting_store::CountingStore;
use crate::lake::{Lake, in_lake};

const ENDINGS: [&str; 2] = [".csv", ".csv.metadata"];

/// An instance whose writes of such names go on only as the gate lets them.
fn gated(lake: &Lake, ending: &'static str) -> (Athena, Arc<CountingStore>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let store = Arc::new(CountingStore::gated_puts(Arc::clone(&lake.store), ending, Arc::clone(&gate)));
    let builder = Athena::on(Arc::clone(&store) as _, "results").metastore(Arc::clone(&lake.catalog) as _);
    (builder.build().unwrap(), store, gate)
}

async fn objects(lake: &Lake, id: QueryExecutionId) -> Vec<String> {
    let all: Vec<_> = lake.store.list(Some(&Path::from("results"))).try_collect().await.unwrap();
    let names = all.iter().map(|object| object.location.filename().unwrap().to_owned());
    names.filter(|name| name.starts_with(&id.to_string())).collect()
}

#[tokio::test]
async fn a_stop_while_the_result_is_completed_comes_too_late() {
    let lake = Lake::with_events().await;
    for ending in ENDINGS {
        let (athena, store, gate) = gated(&lake, ending);
        let id = athena.start(in_lake("select id from flat")).await.unwrap();
        while store.waited.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let (stopped, ()) = tokio::join!(athena.stop(id), async { gate.add_permits(1) });
        assert_eq!(stopped.unwrap().state, QueryState::Succeeded, "{ending}");
        assert_eq!(objects(&lake, id).await.len(), 3);
        athena.results(id, PageRequest::first()).await.unwrap();
    }
}

#[tokio::test]
async fn a_result_that_cannot_be_completed_leaves_no_object() {
    let lake = Lake::with_events().await;
    for ending in ENDINGS {
        let (athena, _, gate) = gated(&lake, ending);
        gate.close();
        let id = athena.start(in_lake("select id from flat")).await.unwrap();
        assert_eq!(athena.wait(id).await.unwrap().state, QueryState::Failed);
        assert_eq!(objects(&lake, id).await, [format!("{id}.json")], "{ending}");
    }
}

#[tokio::test]
async fn a_stream_whose_instance_is_dropped_ends_in_an_error() {
    let lake = Lake::with_events().await;
    let gate = Arc::new(Semaphore::new(0));
    let store = Arc::new(CountingStore::gated(Arc::clone(&lake.store), "lake/events", gate));
    let athena = lake.builder().data_store(store).build().unwrap();
    let stream = athena.stream(in_lake("select * from events")).await.unwrap();
    drop(athena);
    let all: Vec<_> = stream.collect().await;
    assert_eq!(all.len(), 1);
    let error = all[0].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.message().contains("handle"), "{error}");
}
