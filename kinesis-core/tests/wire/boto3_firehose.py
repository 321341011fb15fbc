"""Calls every operation of Firehose that boto3 has at the endpoint it is given, and checks what comes back.

    python3 boto3_firehose.py http://127.0.0.1:4566

The stream `s` must be there. Leaves the delivery streams `direct` and `reading`. Ends with what was not called.
"""

import json
import sys

import boto3
from botocore.config import Config
from refusal import refused

ROLE = "arn:aws:iam::000000000000:role/firehose"
BUCKET = "arn:aws:s3:::lake"

called = set()
firehose = boto3.client(
    "firehose",
    endpoint_url=sys.argv[1],
    region_name="us-east-1",
    # The endpoint checks, not boto3.
    config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
)
firehose.meta.events.register("before-call.firehose.*", lambda model, **_: called.add(model.name))


def destination(**members):
    hints = {"SizeInMBs": 1, "IntervalInSeconds": 0}
    return {"RoleARN": ROLE, "BucketARN": BUCKET, "BufferingHints": hints, **members}


def processor(kind, **parameters):
    named = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Type": kind, "Parameters": named}


def converted(deserializer):
    formats = {"Serializer": {"ParquetSerDe": {}}}
    inputs = {"Deserializer": deserializer}
    conversion = {"Enabled": True, "InputFormatConfiguration": inputs, "OutputFormatConfiguration": formats}
    return {"DataFormatConversionConfiguration": conversion}


def describe(name):
    return firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]


# ---- create ---------------------------------------------------------------------------------------------------------

partitioned = destination(
    Prefix="events/city=!{partitionKeyFromQuery:city}/",
    ErrorOutputPrefix="errors/!{firehose:error-output-type}/",
    CompressionFormat="GZIP",
    FileExtension=".json.gz",
    CustomTimeZone="Europe/Oslo",
    DynamicPartitioningConfiguration={"Enabled": True},
    ProcessingConfiguration={
        "Enabled": True,
        "Processors": [
            processor("RecordDeAggregation", SubRecordType="JSON"),
            processor("MetadataExtraction", MetadataExtractionQuery="{city: .at.city}", JsonParsingEngine="JQ-1.6"),
            processor("AppendDelimiterToRecord", Delimiter="\\n"),
        ],
    },
)
made = firehose.create_delivery_stream(
    DeliveryStreamName="direct",
    DeliveryStreamType="DirectPut",
    ExtendedS3DestinationConfiguration=partitioned,
    Tags=[{"Key": "team", "Value": "data"}],
)
assert made["DeliveryStreamARN"] == "arn:aws:firehose:us-east-1:000000000000:deliverystream/direct", made
firehose.create_delivery_stream(
    DeliveryStreamName="reading",
    DeliveryStreamType="KinesisStreamAsSource",
    KinesisStreamSourceConfiguration={"KinesisStreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s", "RoleARN": ROLE},
    S3DestinationConfiguration=destination(Prefix="read/"),
)
create = firehose.create_delivery_stream
refused("ResourceInUseException", create, "already exists", DeliveryStreamName="direct", S3DestinationConfiguration=destination())
refused("InvalidArgumentException", create, "Exactly one", DeliveryStreamName="x")
refused("ValidationException", create, DeliveryStreamName="a b", S3DestinationConfiguration=destination())
refused("ValidationException", create, DeliveryStreamName="x" * 65, S3DestinationConfiguration=destination())
for message, members in [
    ("BucketARN", {"BucketARN": "lake"}),
    ("BucketARN", {"BucketARN": "arn:aws:s3:::.."}),
    ("buffer", {"BufferingHints": {"SizeInMBs": 129}}),
    ("CompressionFormat", {"CompressionFormat": "LZ4"}),
    ("error output prefix", {"Prefix": "!{timestamp:yyyy}/"}),
    ("partition", {"Prefix": "!{partitionKeyFromQuery:a}/", "ErrorOutputPrefix": "e/"}),
    ("MetadataExtraction", {"DynamicPartitioningConfiguration": {"Enabled": True}}),
    ("time zone", {"CustomTimeZone": "Mars/Olympus"}),
    ("Lambda", {"ProcessingConfiguration": {"Enabled": True, "Processors": [processor("Lambda", LambdaArn="arn:x")]}}),
    ("Unheard", {"ProcessingConfiguration": {"Enabled": True, "Processors": [processor("Unheard")]}}),
    ("S3BackupConfiguration", {"S3BackupMode": "Enabled"}),
    ("KMS", {"EncryptionConfiguration": {"KMSEncryptionConfig": {"AWSKMSKeyARN": "arn:x"}}}),
    ("ParquetSerDe", {"DataFormatConversionConfiguration": {"Enabled": True}}),
    ("CaseInsensitive", converted({"OpenXJsonSerDe": {"CaseInsensitive": False}})),
    ("ColumnToJsonKeyMappings", converted({"OpenXJsonSerDe": {"ColumnToJsonKeyMappings": {"a": "b"}}})),
    ("TimestampFormats", converted({"HiveJsonSerDe": {"TimestampFormats": ["millis"]}})),
]:
    refused(
        "InvalidArgumentException",
        create,
        message,
        DeliveryStreamName="x",
        ExtendedS3DestinationConfiguration=destination(**members),
    )
refused("InvalidArgumentException", create, "RoleARN", DeliveryStreamName="x", SplunkDestinationConfiguration={"HECToken": "t"})
refused("InvalidArgumentException", create, "Snowflake", DeliveryStreamName="x", SnowflakeDestinationConfiguration={"User": "u"})
refused(
    "InvalidArgumentException",
    create,
    "does not exist",
    DeliveryStreamName="x",
    DeliveryStreamType="KinesisStreamAsSource",
    KinesisStreamSourceConfiguration={"KinesisStreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/none", "RoleARN": ROLE},
    S3DestinationConfiguration=destination(),
)

# ---- describe and list ----------------------------------------------------------------------------------------------

described = describe("direct")
assert described["DeliveryStreamStatus"] == "ACTIVE" and described["DeliveryStreamType"] == "DirectPut", described
assert described["VersionId"] == "1" and "LastUpdateTimestamp" not in described, described
[target] = described["Destinations"]
extended = target["ExtendedS3DestinationDescription"]
assert {name: extended[name] for name in partitioned} == partitioned, extended
assert extended["S3BackupMode"] == "Disabled", extended
assert "ProcessingConfiguration" not in target["S3DestinationDescription"], target
reading = describe("reading")
assert reading["Source"]["KinesisStreamSourceDescription"]["RoleARN"] == ROLE, reading
assert reading["Destinations"][0]["S3DestinationDescription"]["CompressionFormat"] == "UNCOMPRESSED", reading
refused("ResourceNotFoundException", firehose.describe_delivery_stream, "not found", DeliveryStreamName="none")
listed = firehose.list_delivery_streams()
assert (listed["DeliveryStreamNames"], listed["HasMoreDeliveryStreams"]) == (["direct", "reading"], False), listed
listed = firehose.list_delivery_streams(Limit=1)
assert (listed["DeliveryStreamNames"], listed["HasMoreDeliveryStreams"]) == (["direct"], True), listed
listed = firehose.list_delivery_streams(ExclusiveStartDeliveryStreamName="direct")
assert listed["DeliveryStreamNames"] == ["reading"], listed
listed = firehose.list_delivery_streams(DeliveryStreamType="KinesisStreamAsSource")
assert listed["DeliveryStreamNames"] == ["reading"], listed

# ---- put ------------------------------------------------------------------------------------------------------------


def event(city, number):
    return json.dumps({"at": {"city": city}, "number": number}).encode()


put = firehose.put_record(DeliveryStreamName="direct", Record={"Data": event("Oslo", 1) + event("Rome", 2)})
assert put["RecordId"] and put["Encrypted"] is False, put
batch = [{"Data": event("Oslo", number)} for number in range(3, 10)] + [{"Data": b"no JSON"}]
put = firehose.put_record_batch(DeliveryStreamName="direct", Records=batch)
assert put["FailedPutCount"] == 0 and len({entry["RecordId"] for entry in put["RequestResponses"]}) == len(batch), put
refused("InvalidArgumentException", firehose.put_record, "not permitted", DeliveryStreamName="reading", Record={"Data": b"x"})
refused("ResourceNotFoundException", firehose.put_record, DeliveryStreamName="none", Record={"Data": b"x"})
refused("ValidationException", firehose.put_record, DeliveryStreamName="direct", Record={})
refused("ValidationException", firehose.put_record, DeliveryStreamName="direct", Record={"Data": b"x" * 1_024_001})
refused("ValidationException", firehose.put_record_batch, DeliveryStreamName="direct", Records=[])
refused("ValidationException", firehose.put_record_batch, DeliveryStreamName="direct", Records=[{"Data": b"x"}] * 501)
large = [{"Data": b"x" * 1_000_000}] * 5
refused("InvalidArgumentException", firehose.put_record_batch, DeliveryStreamName="direct", Records=large)

# ---- update ---------------------------------------------------------------------------------------------------------

update = {"DeliveryStreamName": "reading", "DestinationId": "destinationId-000000000001"}
firehose.update_destination(
    CurrentDeliveryStreamVersionId="1", ExtendedS3DestinationUpdate={"Prefix": "read-again/"}, **update
)
reading = describe("reading")
again = reading["Destinations"][0]["ExtendedS3DestinationDescription"]
assert reading["VersionId"] == "2" and reading["LastUpdateTimestamp"] >= reading["CreateTimestamp"], reading
assert again["Prefix"] == "read-again/" and again["BucketARN"] == BUCKET, again
change = firehose.update_destination
stale = {"CurrentDeliveryStreamVersionId": "1", "ExtendedS3DestinationUpdate": {"Prefix": "p/"}}
refused("ConcurrentModificationException", change, "version id", **stale, **update)
bad = {"CurrentDeliveryStreamVersionId": "2", "ExtendedS3DestinationUpdate": {"CustomTimeZone": "Mars/Olympus"}}
refused("InvalidArgumentException", change, **bad, **update)
refused("InvalidArgumentException", change, CurrentDeliveryStreamVersionId="2", **update)
refused(
    "InvalidArgumentException",
    change,
    DeliveryStreamName="reading",
    CurrentDeliveryStreamVersionId="2",
    DestinationId="another",
    ExtendedS3DestinationUpdate={},
)

# ---- tags -----------------------------------------------------------------------------------------------------------

tags = [{"Key": f"k{number}", "Value": str(number)} for number in range(3)]
firehose.tag_delivery_stream(DeliveryStreamName="direct", Tags=tags)
firehose.untag_delivery_stream(DeliveryStreamName="direct", TagKeys=["k1", "none"])
listed = firehose.list_tags_for_delivery_stream(DeliveryStreamName="direct", Limit=2)
assert listed["Tags"] == [tags[0], tags[2]] and listed["HasMoreTags"], listed
listed = firehose.list_tags_for_delivery_stream(DeliveryStreamName="direct", ExclusiveStartTagKey="k2")
assert listed["Tags"] == [{"Key": "team", "Value": "data"}] and not listed["HasMoreTags"], listed
many = [{"Key": f"m{number}", "Value": ""} for number in range(50)]
refused("LimitExceededException", firehose.tag_delivery_stream, DeliveryStreamName="direct", Tags=many)
refused(
    "InvalidArgumentException", firehose.tag_delivery_stream, DeliveryStreamName="direct", Tags=[{"Key": "aws:x", "Value": ""}]
)
assert describe("direct")["VersionId"] == "1"

# ---- encryption and deletion ----------------------------------------------------------------------------------------

key = {"KeyType": "AWS_OWNED_CMK"}
start = firehose.start_delivery_stream_encryption
refused(
    "InvalidKMSResourceException", start, DeliveryStreamName="direct", DeliveryStreamEncryptionConfigurationInput=key
)
firehose.stop_delivery_stream_encryption(DeliveryStreamName="direct")
assert describe("direct")["DeliveryStreamEncryptionConfiguration"]["Status"] == "DISABLED"
create(DeliveryStreamName="gone", S3DestinationConfiguration=destination())
firehose.delete_delivery_stream(DeliveryStreamName="gone")
refused("ResourceNotFoundException", firehose.delete_delivery_stream, DeliveryStreamName="gone")

operations = set(firehose.meta.method_to_api_mapping.values())
print("not called:", sorted(operations - called))
