//! Handles are cheap to pass around, mean one stream, and say so when it or the instance is gone.

use kinesis_core::{
    DataStream, Error, ErrorKind, IteratorType, Kinesis, KinesisBuilder, PutBatch, Record, ShardId, ShardIterator,
};

use super::stage::{numbers, put};

fn anywhere<T: Send + Sync + 'static>() {}

#[test]
fn handles_and_results_go_anywhere() {
    anywhere::<Kinesis>();
    anywhere::<KinesisBuilder>();
    anywhere::<DataStream>();
    anywhere::<ShardIterator>();
    anywhere::<Record>();
    anywhere::<PutBatch>();
    anywhere::<Error>();
    fn sent<T: Send>(_: T) {}
    let _ = |stream: DataStream, iterator: ShardIterator| {
        sent(stream.subscribe(ShardId::new(0), IteratorType::Latest));
        sent(stream.get_records(&iterator, 1));
        sent(stream.put_records(Vec::new()));
        sent(Kinesis::memory().open());
    };
}

#[test]
fn opening_outside_a_runtime_is_an_error() {
    let error = futures::executor::block_on(Kinesis::memory().open()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("tokio"), "{error:?}");
}

#[tokio::test]
async fn a_deleted_stream_is_gone_and_its_name_free() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let old = kinesis.create_stream("s", 2).await.unwrap();
    put(&old, 0..10).await;
    kinesis.seal().await.unwrap();
    put(&old, 10..20).await;
    let iterator = old.shard_iterator(ShardId::new(0), IteratorType::TrimHorizon).await.unwrap();
    let exists = kinesis.create_stream("s", 1).await.unwrap_err();
    assert_eq!((exists.kind(), exists.code()), (ErrorKind::AlreadyExists, "ResourceInUseException"));
    kinesis.delete_stream("s").await.unwrap();
    assert_eq!(kinesis.delete_stream("s").await.unwrap_err().kind(), ErrorKind::NotFound);
    let new = kinesis.create_stream("s", 3).await.unwrap();
    assert_eq!(old.put_records(vec![super::stage::record(1)]).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(old.get_records(&iterator, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(new.get_records(&iterator, 1).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    put(&new, 30..33).await;
    kinesis.seal().await.unwrap();
    assert_eq!(numbers(&new).await, [30, 31, 32]);
    assert_eq!(kinesis.list_streams().iter().map(ToString::to_string).collect::<Vec<_>>(), ["s"]);
    let description = kinesis.describe_stream("s").unwrap();
    assert_eq!((description.open_shards, description.retention.as_secs()), (3, 86_400));
    let store = kinesis.store();
    let objects: Vec<_> = futures::TryStreamExt::try_collect(store.list(None)).await.unwrap();
    assert!(objects.len() <= 3, "the old stream's segments are deleted: {objects:?}");
}

#[tokio::test]
async fn a_closed_instance_says_so() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    kinesis.close().await.unwrap();
    kinesis.close().await.unwrap();
    assert_eq!(stream.put_records(vec![super::stage::record(1)]).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(stream.list_shards().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(kinesis.seal().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(kinesis.create_stream("t", 1).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn bad_names_and_numbers_are_refused() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    for (name, shards) in [("", 1), ("a/b", 1), ("s", 0), ("s", 10_001)] {
        let error = kinesis.create_stream(name, shards).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name} {shards}");
    }
    let missing = kinesis.stream("none").unwrap_err();
    assert_eq!((missing.kind(), missing.code()), (ErrorKind::NotFound, "ResourceNotFoundException"));
}
