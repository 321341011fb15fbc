"""Calls every operation of Kinesis that boto3 has at the endpoint it is given, and checks what comes back.

    python3 boto3_operations.py http://127.0.0.1:4566

What the endpoint does not have must say so. Ends with what was not called.
"""

import datetime
import sys
import time

import boto3
from botocore.config import Config
from refusal import refused

ACCOUNT = "000000000000"
MAX_HASH = str((1 << 128) - 1)

called = set()
kinesis = boto3.client(
    "kinesis",
    endpoint_url=sys.argv[1],
    region_name="us-east-1",
    # The endpoint checks, not boto3.
    config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
)
kinesis.meta.events.register("before-call.kinesis.*", lambda model, **_: called.add(model.name))


def summary(name="s"):
    return kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]


def read(shard, name="s", kind="TRIM_HORIZON", **more):
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType=kind, **more)
    records, children = [], None
    iterator = iterator["ShardIterator"]
    while iterator:
        answer = kinesis.get_records(ShardIterator=iterator, Limit=100)
        records += answer["Records"]
        iterator = answer.get("NextShardIterator")
        children = answer.get("ChildShards")
        if iterator and not answer["Records"]:
            break
    return records, children


# ---- streams --------------------------------------------------------------------------------------------------------

kinesis.create_stream(StreamName="s", ShardCount=2, Tags={"team": "web"})
kinesis.get_waiter("stream_exists").wait(StreamName="s")
described = kinesis.describe_stream(StreamName="s")["StreamDescription"]
arn = described["StreamARN"]
assert arn == f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/s", arn
assert described["StreamStatus"] == "ACTIVE" and described["RetentionPeriodHours"] == 24, described
assert described["StreamModeDetails"] == {"StreamMode": "PROVISIONED"}, described
assert described["HasMoreShards"] is False and described["EncryptionType"] == "NONE", described
assert isinstance(described["StreamCreationTimestamp"], datetime.datetime), described
first, second = described["Shards"]
assert first["ShardId"] == "shardId-000000000000" and first["HashKeyRange"]["StartingHashKey"] == "0", first
assert second["HashKeyRange"] == {"StartingHashKey": str(1 << 127), "EndingHashKey": MAX_HASH}, second
assert "EndingSequenceNumber" not in first["SequenceNumberRange"], first
assert summary()["OpenShardCount"] == 2 and summary()["ConsumerCount"] == 0
assert kinesis.describe_stream(StreamARN=arn)["StreamDescription"]["StreamName"] == "s"

refused("ResourceInUseException", kinesis.create_stream, "already exists", StreamName="s", ShardCount=1)
refused("ResourceNotFoundException", kinesis.describe_stream, f"Stream none under account {ACCOUNT} not found.", StreamName="none")
refused(
    "ValidationException",
    kinesis.create_stream,
    "1 validation error detected: Value '0' at 'shardCount' failed to satisfy constraint: "
    "Member must have value greater than or equal to 1",
    StreamName="t",
    ShardCount=0,
)
refused(
    "ValidationException",
    kinesis.create_stream,
    "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
    StreamName="a b",
    ShardCount=1,
)

kinesis.create_stream(StreamName="on-demand", StreamModeDetails={"StreamMode": "ON_DEMAND"})
assert summary("on-demand")["OpenShardCount"] == 4, summary("on-demand")
for number in range(3):
    kinesis.create_stream(StreamName=f"page-{number}", ShardCount=1)
names = [name for page in kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 2}) for name in page["StreamNames"]]
assert names == ["on-demand", "page-0", "page-1", "page-2", "s"], names
listed = kinesis.list_streams(Limit=1)
assert listed["HasMoreStreams"] and listed["StreamSummaries"][0]["StreamName"] == "on-demand", listed
limits = kinesis.describe_limits()
assert limits["OpenShardCount"] == 5 and limits["ShardLimit"] >= 20, limits
assert limits["OnDemandStreamCount"] == 1, limits
for number in range(3):
    kinesis.delete_stream(StreamName=f"page-{number}")
    kinesis.get_waiter("stream_not_exists").wait(StreamName=f"page-{number}")
kinesis.update_stream_mode(StreamARN=summary("on-demand")["StreamARN"], StreamModeDetails={"StreamMode": "PROVISIONED"})
assert summary("on-demand")["StreamModeDetails"]["StreamMode"] == "PROVISIONED"

kinesis.increase_stream_retention_period(StreamName="s", RetentionPeriodHours=48)
refused("InvalidArgumentException", kinesis.increase_stream_retention_period, StreamName="s", RetentionPeriodHours=36)
kinesis.decrease_stream_retention_period(StreamName="s", RetentionPeriodHours=24)
assert summary()["RetentionPeriodHours"] == 24
kinesis.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=2048)
assert summary()["MaxRecordSizeInKiB"] == 2048, summary()

monitoring = kinesis.enable_enhanced_monitoring(StreamName="s", ShardLevelMetrics=["IncomingBytes", "OutgoingBytes"])
assert monitoring["DesiredShardLevelMetrics"] == ["IncomingBytes", "OutgoingBytes"], monitoring
monitoring = kinesis.disable_enhanced_monitoring(StreamName="s", ShardLevelMetrics=["IncomingBytes"])
assert monitoring["CurrentShardLevelMetrics"] == ["IncomingBytes", "OutgoingBytes"], monitoring
assert monitoring["DesiredShardLevelMetrics"] == ["OutgoingBytes"], monitoring

kinesis.add_tags_to_stream(StreamName="s", Tags={"env": "test", "x": ""})
kinesis.tag_resource(ResourceARN=arn, Tags={"cost": "7"})
tags = kinesis.list_tags_for_stream(StreamName="s")
assert {tag["Key"]: tag["Value"] for tag in tags["Tags"]} == {"team": "web", "env": "test", "x": "", "cost": "7"}, tags
kinesis.remove_tags_from_stream(StreamName="s", TagKeys=["x"])
kinesis.untag_resource(ResourceARN=arn, TagKeys=["cost"])
tags = kinesis.list_tags_for_resource(ResourceARN=arn)["Tags"]
assert {tag["Key"] for tag in tags} == {"team", "env"}, tags

# ---- records --------------------------------------------------------------------------------------------------------

put = kinesis.put_record(StreamName="s", PartitionKey="k", Data=b"\x00\xffone", ExplicitHashKey="0")
assert put["ShardId"] == "shardId-000000000000" and len(put["SequenceNumber"]) == 56, put
later = kinesis.put_record(
    StreamName="s", PartitionKey="k", Data=b"two", ExplicitHashKey="0", SequenceNumberForOrdering=put["SequenceNumber"]
)
assert int(later["SequenceNumber"]) > int(put["SequenceNumber"]), (put, later)
batch = kinesis.put_records(
    StreamName="s", Records=[{"PartitionKey": f"key-{n}", "Data": f"{n}".encode()} for n in range(500)]
)
assert batch["FailedRecordCount"] == 0 and len(batch["Records"]) == 500, batch
assert {entry["ShardId"] for entry in batch["Records"]} == {"shardId-000000000000", "shardId-000000000001"}

records, _ = read("shardId-000000000000")
assert records[0]["Data"] == b"\x00\xffone" and records[1]["Data"] == b"two", records[:2]
assert records[0]["SequenceNumber"] == put["SequenceNumber"] and records[0]["PartitionKey"] == "k", records[0]
now = datetime.datetime.now(datetime.timezone.utc)
assert abs((records[0]["ApproximateArrivalTimestamp"] - now).total_seconds()) < 600, records[0]
assert [int(record["SequenceNumber"]) for record in records] == sorted(int(r["SequenceNumber"]) for r in records)
after, _ = read("shardId-000000000000", kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=put["SequenceNumber"])
at, _ = read("shardId-000000000000", kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=put["SequenceNumber"])
assert at == records and after == records[1:]
latest, _ = read("shardId-000000000000", kind="LATEST")
assert latest == []
timed, _ = read("shardId-000000000000", kind="AT_TIMESTAMP", Timestamp=records[0]["ApproximateArrivalTimestamp"])
assert timed == records, len(timed)
total = sum(len(read(shard)[0]) for shard in ("shardId-000000000000", "shardId-000000000001"))
assert total == 502, total

refused("ResourceNotFoundException", kinesis.put_record, StreamName="none", PartitionKey="k", Data=b"x")
refused("ValidationException", kinesis.put_record, "partitionKey", StreamName="s", PartitionKey="k" * 257, Data=b"x")
refused("InvalidArgumentException", kinesis.put_record, "ExplicitHashKey", StreamName="s", PartitionKey="k", Data=b"", ExplicitHashKey=str(1 << 128))
refused("ResourceNotFoundException", kinesis.get_shard_iterator, "Shard shardId-000000000009 in stream s", StreamName="s", ShardId="shardId-000000000009", ShardIteratorType="LATEST")
refused("InvalidArgumentException", kinesis.get_records, ShardIterator="AAAAnonsense")
refused("ValidationException", kinesis.get_records, "limit", ShardIterator="x" * 30, Limit=10001)
refused("InvalidArgumentException", kinesis.get_shard_iterator, StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="AT_SEQUENCE_NUMBER", StartingSequenceNumber=batch["Records"][0]["SequenceNumber"][:-3] + "123")

# A shard takes 1,000 records a second: what is past it is told, entry by entry.
throttled = 0
for _ in range(6):
    answer = kinesis.put_records(
        StreamName="s", Records=[{"PartitionKey": "k", "Data": b"x", "ExplicitHashKey": MAX_HASH}] * 500
    )
    failed = [entry for entry in answer["Records"] if "ErrorCode" in entry]
    assert len(failed) == answer["FailedRecordCount"]
    assert all(entry["ErrorCode"] == "ProvisionedThroughputExceededException" for entry in failed)
    assert all("Rate exceeded for shard shardId-000000000001 in stream s under account" in entry["ErrorMessage"] for entry in failed)
    throttled += len(failed)
assert throttled > 0

# ---- shards ---------------------------------------------------------------------------------------------------------

kinesis.split_shard(StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 126))
refused("InvalidArgumentException", kinesis.split_shard, StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 125))
records, children = read("shardId-000000000000")
assert [child["ShardId"] for child in children] == ["shardId-000000000002", "shardId-000000000003"], children
assert children[0]["ParentShards"] == ["shardId-000000000000"] and children[0]["HashKeyRange"]["StartingHashKey"] == "0"
kinesis.merge_shards(StreamName="s", ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000003")
_, children = read("shardId-000000000002")
assert children[0]["ParentShards"] == ["shardId-000000000002", "shardId-000000000003"], children
shards = kinesis.list_shards(StreamName="s")["Shards"]
assert [shard["ShardId"][-1] for shard in shards] == list("01234"), shards
assert shards[4]["ParentShardId"] == "shardId-000000000002" and shards[4]["AdjacentParentShardId"] == "shardId-000000000003"
assert "EndingSequenceNumber" in shards[0]["SequenceNumberRange"]
latest = kinesis.list_shards(StreamName="s", ShardFilter={"Type": "AT_LATEST"})["Shards"]
assert [shard["ShardId"][-1] for shard in latest] == ["1", "4"], latest
behind = kinesis.list_shards(StreamName="s", ShardFilter={"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000002"})
assert [shard["ShardId"][-1] for shard in behind["Shards"]] == ["3", "4"], behind
# boto3's own paginator sends the name along with the token, which AWS refuses.
page = kinesis.list_shards(StreamName="s", MaxResults=2)
paged = page["Shards"]
refused("InvalidArgumentException", kinesis.list_shards, "cannot be provided together", StreamName="s", NextToken=page["NextToken"])
while "NextToken" in page:
    page = kinesis.list_shards(NextToken=page["NextToken"], MaxResults=2)
    paged += page["Shards"]
assert [shard["ShardId"][-1] for shard in paged] == list("01234"), paged
pages = kinesis.get_paginator("describe_stream").paginate(StreamName="s", PaginationConfig={"PageSize": 2})
assert sum(len(page["StreamDescription"]["Shards"]) for page in pages) == 5
scaled = kinesis.update_shard_count(StreamName="s", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
assert (scaled["CurrentShardCount"], scaled["TargetShardCount"]) == (2, 4), scaled
assert summary()["OpenShardCount"] == 4
refused("LimitExceededException", kinesis.update_shard_count, StreamName="s", TargetShardCount=9, ScalingType="UNIFORM_SCALING")

# ---- registered consumers -------------------------------------------------------------------------------------------

consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="app", Tags={"a": "b"})["Consumer"]
assert consumer["ConsumerARN"].startswith(arn + "/consumer/app:"), consumer
found = kinesis.describe_stream_consumer(ConsumerARN=consumer["ConsumerARN"])["ConsumerDescription"]
assert found["ConsumerStatus"] == "ACTIVE" and found["StreamARN"] == arn, found
refused("ResourceInUseException", kinesis.register_stream_consumer, StreamARN=arn, ConsumerName="app")
kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="other")
pages = kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=arn, PaginationConfig={"PageSize": 1})
assert [one["ConsumerName"] for page in pages for one in page["Consumers"]] == ["app", "other"]
assert summary()["ConsumerCount"] == 2

events = kinesis.subscribe_to_shard(
    ConsumerARN=consumer["ConsumerARN"], ShardId="shardId-000000000000", StartingPosition={"Type": "TRIM_HORIZON"}
)["EventStream"]
pushed, ended = [], None
for event in events:
    event = event["SubscribeToShardEvent"]
    pushed += event["Records"]
    ended = event.get("ChildShards")
assert [record["SequenceNumber"] for record in pushed] == [record["SequenceNumber"] for record in records]
assert pushed[0]["Data"] == b"\x00\xffone" and len(ended) == 2, ended
open_shard = latest[0]["ShardId"]
refused("ResourceNotFoundException", kinesis.subscribe_to_shard, ConsumerARN=consumer["ConsumerARN"], ShardId="shardId-000000000077", StartingPosition={"Type": "LATEST"})
kinesis.deregister_stream_consumer(StreamARN=arn, ConsumerName="other")
refused("ResourceInUseException", kinesis.delete_stream, StreamName="s")
kinesis.delete_stream(StreamName="s", EnforceConsumerDeletion=True)
refused("ResourceNotFoundException", kinesis.list_shards, StreamName="s")

# ---- what is not there ----------------------------------------------------------------------------------------------

# Encryption, policies, account settings, queues and channels: the server's documentation says so.
operations = {operation: method for method, operation in kinesis.meta.method_to_api_mapping.items()}
for operation in sorted(set(operations) - called):
    if operation.endswith("Encryption"):
        refused("UnknownOperationException", getattr(kinesis, operations[operation]), StreamName="s")
    else:
        refused("UnknownOperationException", getattr(kinesis, operations[operation]))
    print("not there:", operation)

print("not called:", sorted(set(operations) - called))
