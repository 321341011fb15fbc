"""Makes delivery streams to endpoints, and one with a function, a catalog's table and a backup, and puts a record to each.

    python3 boto3_firehose_endpoints.py http://127.0.0.1:4566 COLLECTOR SPLUNK OPENSEARCH FUNCTION REDSHIFT

The URLs behind the first are those of the endpoints, the last a JDBC URL. The function `arn:aws:lambda:us-east-1:0:function:upper` and the table
`lake.events` must be there.
"""

import sys

import boto3
from botocore.config import Config
from refusal import refused

url, collector, splunk, opensearch, function, redshift = sys.argv[1:]
ROLE = "arn:aws:iam::000000000000:role/firehose"
NOW = {"SizeInMBs": 1, "IntervalInSeconds": 0}

firehose = boto3.client(
    "firehose",
    endpoint_url=url,
    region_name="us-east-1",
    config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
)
create = firehose.create_delivery_stream


def bucket(name, **members):
    return {"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{name}", **members}


def described(name):
    description = firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]
    [destination] = description["Destinations"]
    return description["VersionId"], destination


def with_function(arn, **parameters):
    named = {"LambdaArn": arn, **parameters}
    listed = [{"ParameterName": key, "ParameterValue": value} for key, value in named.items()]
    return {"Enabled": True, "Processors": [{"Type": "Lambda", "Parameters": listed}]}


# ---- an HTTP endpoint, all records backed up ------------------------------------------------------------------------

http = {
    "EndpointConfiguration": {"Url": collector, "Name": "collector", "AccessKey": "a secret"},
    "RequestConfiguration": {
        "ContentEncoding": "GZIP",
        "CommonAttributes": [{"AttributeName": "team", "AttributeValue": "data"}],
    },
    "BufferingHints": NOW,
    "RetryOptions": {"DurationInSeconds": 5},
    "S3BackupMode": "AllData",
    "S3Configuration": bucket("backup", Prefix="http/", CompressionFormat="GZIP"),
    "ProcessingConfiguration": with_function(function, NumberOfRetries="0", BufferSizeInMBs="0.2"),
}
create(DeliveryStreamName="http", HttpEndpointDestinationConfiguration=http)
version, destination = described("http")
found = destination["HttpEndpointDestinationDescription"]
assert found["EndpointConfiguration"] == {"Url": collector, "Name": "collector"}, "the access key is not told"
assert found["S3DestinationDescription"]["Prefix"] == "http/" and found["S3BackupMode"] == "AllData", found
assert found["RequestConfiguration"] == http["RequestConfiguration"] and "S3Configuration" not in found, found
assert "ExtendedS3DestinationDescription" not in destination, destination
firehose.put_record(DeliveryStreamName="http", Record={"Data": b"by http"})

# ---- Splunk, changed into another of its endpoints ------------------------------------------------------------------

firehose.create_delivery_stream(
    DeliveryStreamName="splunk",
    SplunkDestinationConfiguration={
        "HECEndpoint": splunk,
        "HECEndpointType": "Raw",
        "HECToken": "7f1b0d9e-token",
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
        "S3Configuration": bucket("backup", Prefix="splunk/"),
    },
)
version, destination = described("splunk")
found = destination["SplunkDestinationDescription"]
assert (version, found["S3BackupMode"], found["RetryOptions"]) == ("1", "FailedEventsOnly", {"DurationInSeconds": 300}), found
firehose.update_destination(
    DeliveryStreamName="splunk",
    CurrentDeliveryStreamVersionId="1",
    DestinationId=destination["DestinationId"],
    SplunkDestinationUpdate={"HECEndpointType": "Event", "S3Update": {"Prefix": "splunk-failed/"}, "BufferingHints": NOW},
)
version, destination = described("splunk")
found = destination["SplunkDestinationDescription"]
assert (version, found["HECEndpointType"], found["HECEndpoint"]) == ("2", "Event", splunk), found
assert found["S3DestinationDescription"]["Prefix"] == "splunk-failed/", found
firehose.put_record_batch(DeliveryStreamName="splunk", Records=[{"Data": b'{"event": "by splunk"}'}, {"Data": b"no event"}])

# ---- OpenSearch -----------------------------------------------------------------------------------------------------

search = {
    "RoleARN": ROLE,
    "ClusterEndpoint": opensearch,
    "IndexName": "logs",
    "IndexRotationPeriod": "NoRotation",
    "BufferingHints": NOW,
    "S3Configuration": bucket("backup", Prefix="search/"),
}
create(DeliveryStreamName="search", AmazonopensearchserviceDestinationConfiguration=search)
firehose.put_record(DeliveryStreamName="search", Record={"Data": b'{"id": 1, "by": "search"}'})
create(DeliveryStreamName="elastic", ElasticsearchDestinationConfiguration={**search, "IndexRotationPeriod": "OneMonth"})
firehose.put_record(DeliveryStreamName="elastic", Record={"Data": b'{"id": 2, "by": "elastic"}'})

# ---- Redshift -------------------------------------------------------------------------------------------------------

loading = {
    "RoleARN": "arn:aws:iam::0:role/r",
    "ClusterJDBCURL": redshift,
    "CopyCommand": {"DataTableName": "events", "DataTableColumns": "id,name", "CopyOptions": "JSON 'auto'"},
    "Username": "loader",
    "Password": "a secret",
    "RetryOptions": {"DurationInSeconds": 60},
    "S3Configuration": bucket("lake", Prefix="loaded/", BufferingHints=NOW),
    "S3BackupMode": "Enabled",
    "S3BackupConfiguration": bucket("raw", Prefix="loaded/"),
}
create(DeliveryStreamName="redshift", RedshiftDestinationConfiguration=loading)
_, destination = described("redshift")
found = destination["RedshiftDestinationDescription"]
assert found["CopyCommand"] == loading["CopyCommand"] and found["Username"] == "loader", found
assert "Password" not in found and found["S3BackupDescription"]["Prefix"] == "loaded/", found
firehose.put_record(DeliveryStreamName="redshift", Record={"Data": b'{"id": 7, "name": "loaded"}'})

# ---- one kind of destination in the place of another ----------------------------------------------------------------

create(DeliveryStreamName="moved", HttpEndpointDestinationConfiguration={**http, "ProcessingConfiguration": {"Enabled": False}})
_, destination = described("moved")
moving = {"DeliveryStreamName": "moved", "DestinationId": destination["DestinationId"]}
firehose.update_destination(
    CurrentDeliveryStreamVersionId="1",
    ExtendedS3DestinationUpdate=bucket("lake", Prefix="moved/", BufferingHints=NOW),
    **moving,
)
version, destination = described("moved")
assert version == "2" and "HttpEndpointDestinationDescription" not in destination, destination
assert destination["ExtendedS3DestinationDescription"]["Prefix"] == "moved/", destination
refused(
    "InvalidArgumentException",
    firehose.update_destination,
    "ClusterJDBCURL",
    CurrentDeliveryStreamVersionId="2",
    RedshiftDestinationUpdate={"S3Update": bucket("lake")},
    **moving,
)
firehose.put_record(DeliveryStreamName="moved", Record={"Data": b"moved"})

# ---- S3 with a function of the app, a table of its catalog, and a backup ---------------------------------------------

table = {"DatabaseName": "lake", "TableName": "events", "RoleARN": ROLE, "Region": "us-east-1", "VersionId": "LATEST"}
conversion = {
    "Enabled": True,
    "SchemaConfiguration": table,
    "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
    "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
}
s3 = bucket(
    "lake",
    Prefix="events/",
    BufferingHints=NOW,
    ProcessingConfiguration=with_function("arn:aws:lambda:us-east-1:0:function:upper"),
    DataFormatConversionConfiguration=conversion,
    S3BackupMode="Enabled",
    S3BackupConfiguration=bucket("raw", Prefix="as-they-came/"),
)
create(DeliveryStreamName="s3", ExtendedS3DestinationConfiguration=s3)
_, destination = described("s3")
found = destination["ExtendedS3DestinationDescription"]
assert found["S3BackupDescription"]["BucketARN"] == "arn:aws:s3:::raw" and "S3BackupConfiguration" not in found, found
firehose.put_record_batch(
    DeliveryStreamName="s3", Records=[{"Data": b'{"id": 1, "name": "a", "more": 2}'}, {"Data": b'{"id": "x"}'}]
)

# ---- what is refused ------------------------------------------------------------------------------------------------

for message, members in [
    ("Url", {"EndpointConfiguration": {"Name": "n"}}),
    ("URL", {"EndpointConfiguration": {"Url": "ftp://host"}}),
    ("S3BackupMode", {"S3BackupMode": "FailedEventsOnly"}),
    ("ContentEncoding", {"RequestConfiguration": {"ContentEncoding": "BROTLI"}}),
    ("retry duration", {"RetryOptions": {"DurationInSeconds": 7201}}),
    ("BucketARN", {"S3Configuration": {"RoleARN": ROLE}}),
    ("SecretsManager", {"SecretsManagerConfiguration": {"Enabled": True}}),
    ("BufferSizeInMBs", {"ProcessingConfiguration": with_function(function, BufferSizeInMBs="4")}),
]:
    destination = {**http, **members}
    refused("InvalidArgumentException", create, message, DeliveryStreamName="x", HttpEndpointDestinationConfiguration=destination)
for message, members in [
    ("ClusterEndpoint", {"ClusterEndpoint": None, "DomainARN": "arn:aws:es:us-east-1:0:domain/d"}),
    ("name of an index", {"IndexName": "Logs"}),
    ("IndexRotationPeriod", {"IndexRotationPeriod": "OneYear"}),
    ("VPC", {"VpcConfiguration": {"SubnetIds": ["a"]}}),
]:
    given = {name: value for name, value in {**search, **members}.items() if value is not None}
    refused(
        "InvalidArgumentException",
        create,
        message,
        DeliveryStreamName="x",
        AmazonopensearchserviceDestinationConfiguration=given,
    )
both = {"HttpEndpointDestinationConfiguration": http, "S3DestinationConfiguration": bucket("lake")}
refused("InvalidArgumentException", create, "Exactly one", DeliveryStreamName="x", **both)
pinned = {**conversion, "SchemaConfiguration": {**table, "VersionId": "3"}}
destination = bucket("lake", DataFormatConversionConfiguration=pinned)
refused("InvalidArgumentException", create, "VersionId", DeliveryStreamName="x", ExtendedS3DestinationConfiguration=destination)
