//! The Java Kinesis Client Library 3 reads a stream through a split and a merge, polling and by fan-out: every record once,
//! children after their parents. Its leases are in the DynamoDB of moto.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kinesis_core::{DataStream, HashKey, Kinesis, PutRecord, ShardId};
use serde::Deserialize;

use super::wire_stage::{client, has, script, serve, succeed};

/// A process that ends with the test.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log }
    }

    /// It must still run: what waits for it would wait for ever.
    fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(40).collect();
            panic!(
                "{} ended with {status}:\n{}",
                self.log.display(),
                end.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a processor told.
#[derive(Clone, Debug, Deserialize)]
struct Event {
    event: String,
    shard: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    sequence: String,
}

fn events(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn records(path: &Path) -> usize {
    events(path).iter().filter(|event| event.event == "record").count()
}

async fn put(stream: &DataStream, numbers: std::ops::Range<u32>) {
    for number in numbers {
        stream.put_record(PutRecord::new(format!("{number}"), format!("key-{number}"))).await.unwrap();
    }
}

/// Looks again whenever the scheduler comes back, until `done`.
async fn until(daemons: &mut [Running], done: impl Fn() -> bool) {
    while !done() {
        daemons.iter_mut().for_each(Running::check);
        let _ = tokio::task::spawn_blocking(|| std::thread::park_timeout(std::time::Duration::from_millis(50))).await;
    }
}

const PER_STAGE: u32 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn the_java_kcl_reads_through_a_split_and_a_merge() {
    let test = "the_java_kcl_reads_through_a_split_and_a_merge";
    if !has(test, &["amazon_kclpy", "moto"], &["java", "moto_server"]).await {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let kinesis = Kinesis::memory().open().await.unwrap();
    let server = serve(&kinesis).await;
    // A port that was free a moment ago; moto cannot be told to choose one and say which.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut moto = Command::new("moto_server");
    moto.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    let mut daemons = vec![Running::start(moto, dir.path().join("moto.log"))];
    until(&mut daemons, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;

    let mut find = Command::new("python3");
    find.args(["-c", "import amazon_kclpy, os; print(os.path.dirname(amazon_kclpy.__file__))"]);
    let jars = format!("{}/jars/*", succeed(find).await.trim());
    let mut told = Vec::new();
    for mode in ["POLLING", "FANOUT"] {
        let stream = kinesis.create_stream(mode, 2).await.unwrap();
        put(&stream, 0..PER_STAGE).await;
        let properties = dir.path().join(format!("{mode}.properties"));
        let text = format!(
            "executableName = python3 {}\nstreamName = {mode}\napplicationName = app-{mode}\nretrievalMode = {mode}\n\
             AwsCredentialsProvider = DefaultCredentialsProvider\nregionName = us-east-1\nkinesisEndpoint = {}\n\
             dynamoDBEndpoint = http://127.0.0.1:{port}\ninitialPositionInStream = TRIM_HORIZON\nmetricsLevel = NONE\n\
             idleTimeBetweenReadsInMillis = 200\nparentShardPollIntervalMillis = 500\nshardSyncIntervalMillis = 1000\n\
             failoverTimeMillis = 3000\nprocessingLanguage = python\n",
            script("kcl_processor.py").display(),
            server.url(),
        );
        std::fs::write(&properties, text).unwrap();
        let path = dir.path().join(format!("{mode}.events"));
        let mut java = client("java");
        java.env("KCL_EVENTS", &path).args(["-Xmx256m", "-cp", &jars]);
        java.arg("software.amazon.kinesis.multilang.MultiLangDaemon").arg("--properties-file").arg(&properties);
        daemons.push(Running::start(java, dir.path().join(format!("{mode}.log"))));
        told.push((stream, path));
    }
    let seen = |count: u32| told.iter().all(|(_, path)| records(path) >= count as usize);
    until(&mut daemons, || seen(PER_STAGE)).await;
    for (stream, _) in &told {
        put(stream, PER_STAGE..2 * PER_STAGE).await;
        stream.split_shard(ShardId::new(0), HashKey(1 << 126)).await.unwrap();
        put(stream, 2 * PER_STAGE..3 * PER_STAGE).await;
    }
    for (stream, _) in &told {
        stream.merge_shards(ShardId::new(3), ShardId::new(1)).await.unwrap();
        put(stream, 3 * PER_STAGE..4 * PER_STAGE).await;
    }
    until(&mut daemons, || seen(4 * PER_STAGE)).await;

    for (stream, path) in &told {
        let events = events(path);
        let mut data = BTreeMap::new();
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for event in events.iter().filter(|event| event.event == "record") {
            *data.entry(event.data.clone()).or_insert(0) += 1;
            let before = last.insert(&event.shard, &event.sequence);
            assert!(before.is_none_or(|before| before < event.sequence.as_str()), "{event:?} after {before:?}");
        }
        let expected = (0..4 * PER_STAGE).map(|number| (number.to_string(), 1)).collect();
        assert!(data == expected, "{}: not every record once: {data:?}", stream.name());
        let place = |what: &str, shard: ShardId| {
            events.iter().position(|event| event.event == what && event.shard == shard.to_string())
        };
        let mut ended = BTreeSet::new();
        for shard in stream.list_shards().unwrap() {
            let begun = place("initialize", shard.id).unwrap();
            for parent in shard.parent.iter().chain(&shard.adjacent_parent) {
                let end = place("shard_ended", *parent).unwrap();
                assert!(end < begun, "{} began before {parent} had ended", shard.id);
                ended.insert(*parent);
            }
        }
        assert_eq!(ended, [0, 1, 3].map(ShardId::new).into());
    }
    drop(daemons);
    server.close().await;
    kinesis.close().await.unwrap();
}
