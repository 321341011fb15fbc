//! Tags, modes, retention and registered consumers are what they were set to, in every opening.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::{DataStream, ErrorKind, StreamMode, StreamSpec};

use super::stage::small;

fn tags(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn what_was_set_is_found_by_every_opening() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let check = |stream: &DataStream| {
        assert_eq!(stream.tags().unwrap(), tags(&[("team", "b"), ("\u{fc}", "")]));
        let description = stream.describe().unwrap();
        assert_eq!((description.mode, description.registered_consumers), (StreamMode::Provisioned, 1));
        assert_eq!(description.retention, Duration::from_secs(30 * 3600));
        let consumers = stream.stream_consumers().unwrap();
        assert_eq!(consumers.iter().map(|consumer| consumer.name.as_str()).collect::<Vec<_>>(), ["fan"]);
    };
    let mut kinesis = small(dir.path(), &clock).open().await.unwrap();
    let spec = StreamSpec::on_demand().with_tag("team", "a").with_retention(Duration::from_secs(48 * 3600));
    let stream = kinesis.create_stream("s", spec).await.unwrap();
    assert_eq!(stream.describe().unwrap().open_shards, 4);
    stream.add_tags(tags(&[("team", "b"), ("\u{fc}", ""), ("gone", "1")])).await.unwrap();
    stream.remove_tags(BTreeSet::from(["gone".to_owned(), "never there".to_owned()])).await.unwrap();
    stream.set_mode(StreamMode::Provisioned).await.unwrap();
    stream.set_retention(Duration::from_secs(30 * 3600)).await.unwrap();
    let first = stream.register_stream_consumer("fan").await.unwrap();
    stream.register_stream_consumer("gone").await.unwrap();
    stream.deregister_stream_consumer("gone").await.unwrap();
    assert_eq!(stream.deregister_stream_consumer("gone").await.unwrap_err().kind(), ErrorKind::NotFound);
    check(&stream);
    for sealed in [false, true] {
        if sealed {
            kinesis.seal().await.unwrap();
        }
        kinesis.close().await.unwrap();
        kinesis = small(dir.path(), &clock).open().await.unwrap();
        check(&kinesis.stream("s").unwrap());
    }
    // Registered again, it is another one: its second of creation, which its ARN has, is later.
    clock.advance(Duration::from_secs(1));
    let stream = kinesis.stream("s").unwrap();
    stream.deregister_stream_consumer("fan").await.unwrap();
    assert!(stream.register_stream_consumer("fan").await.unwrap().created > first.created);
}

#[tokio::test]
async fn settings_past_a_bound_are_refused_and_change_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let long = "x".repeat(257);
    for bad in [tags(&[("", "a")]), tags(&[(&long[..129], "a")]), tags(&[("a", &long)])] {
        assert_eq!(stream.add_tags(bad).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let many = |count: u32| (0..count).map(|number| (number.to_string(), String::new())).collect();
    assert_eq!(stream.add_tags(many(51)).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert!(stream.tags().unwrap().is_empty());
    stream.add_tags(many(50)).await.unwrap();
    stream.add_tags(many(50)).await.unwrap();
    assert_eq!(stream.add_tags(tags(&[("one more", "")])).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    for bad in [StreamSpec::provisioned(1).with_retention(Duration::ZERO), StreamSpec::on_demand().with_tag("", "")] {
        assert_eq!(kinesis.create_stream("t", bad).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
