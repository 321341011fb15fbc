//! What AWS's own clients do at AWS they do here: each operation by boto3, and what a person types at the AWS CLI.

use kinesis_core::{Kinesis, Limits, Settings};

use super::wire_stage::{client, has, script, serve, succeed};

#[tokio::test(flavor = "multi_thread")]
async fn boto3_finds_every_operation_as_aws_has_it() {
    if !has("boto3_finds_every_operation_as_aws_has_it", &["boto3"], &[]).await {
        return;
    }
    // Calls a second are as many as the script makes: what it finds does not hang on how fast it is.
    let limits = Limits::aws()
        .with_control_calls_per_second(None)
        .with_shard_read_calls_per_second(None)
        .with_shard_iterators_per_second(None);
    let kinesis = Kinesis::memory().with_settings(Settings::default().with_limits(limits)).open().await.unwrap();
    let server = serve(&kinesis).await;
    let mut python = client("python3");
    python.arg(script("boto3_operations.py")).arg(server.url());
    let told = succeed(python).await;
    // The script counts the operations of boto3's own model that it did not call.
    assert!(told.contains("not called: []"), "{told}");
    server.close().await;
    kinesis.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cli_does_what_its_manual_shows() {
    if !has("the_cli_does_what_its_manual_shows", &[], &["aws"]).await {
        return;
    }
    let kinesis = Kinesis::memory().open().await.unwrap();
    let server = serve(&kinesis).await;
    let aws = async |line: &str| {
        let mut command = client("aws");
        let url = server.url();
        command.args(["--endpoint-url", &url, "--output", "text", "kinesis"]).args(line.split(' '));
        succeed(command).await.trim().to_owned()
    };
    aws("create-stream --stream-name clicks --shard-count 1").await;
    aws("wait stream-exists --stream-name clicks").await;
    assert!(aws("list-streams").await.contains("clicks"));
    let shard = aws("put-record --stream-name clicks --partition-key k --data hello --query ShardId").await;
    assert_eq!(shard, "shardId-000000000000");
    let iterator = aws("get-shard-iterator --stream-name clicks --shard-id shardId-000000000000 \
                        --shard-iterator-type TRIM_HORIZON --query ShardIterator")
    .await;
    let read = aws(&format!("get-records --shard-iterator {iterator} --query Records[].[PartitionKey,Data]")).await;
    assert_eq!(read, "k\taGVsbG8=");
    aws("update-shard-count --stream-name clicks --target-shard-count 2 --scaling-type UNIFORM_SCALING").await;
    let open =
        aws("describe-stream-summary --stream-name clicks --query StreamDescriptionSummary.OpenShardCount").await;
    assert_eq!(open, "2");
    let mut missing = client("aws");
    let url = server.url();
    missing.args(["--endpoint-url", &url, "kinesis", "describe-stream", "--stream-name", "none"]);
    let output = super::wire_stage::run(missing).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("ResourceNotFoundException") && error.contains("none"), "{error}");
    assert!(!output.status.success());
    // With a key that nobody gave, it is refused.
    let mut stranger = client("aws");
    stranger.env("AWS_SECRET_ACCESS_KEY", "another").args(["--endpoint-url", &url, "kinesis", "list-streams"]);
    let output = super::wire_stage::run(stranger).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("InvalidSignatureException"), "{error}");
    server.close().await;
    kinesis.close().await.unwrap();
}
