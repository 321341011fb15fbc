"""What botocore, AWS's own client, makes of the services of botocore.rs. Arguments: endpoint, key, secret."""

import sys

import botocore.config
import botocore.exceptions
import botocore.session

endpoint, key, secret = sys.argv[1:]


def client(key, secret):
    session = botocore.session.Session()
    session.set_credentials(key, secret)
    config = botocore.config.Config(retries={"max_attempts": 0}, parameter_validation=False)
    return session.create_client("kinesis", region_name="eu-west-1", endpoint_url=endpoint, config=config)


def error(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    raise AssertionError("it should have been refused")


kinesis = client(key, secret)

blobs = [b"", b"\x00\xff" * 5000, "grüß".encode()]
for number, blob in enumerate(blobs):
    put = kinesis.put_record(StreamName="clicks", PartitionKey=f"key/{number}", Data=blob)
    assert put["SequenceNumber"] == str(number), put
    assert put["ShardId"] == "arn:aws:kinesis:eu-west-1:000000000000:stream/clicks", put
    metadata = put["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 200 and len(metadata["RequestId"]) == 36 and metadata["HTTPHeaders"]["x-amz-id-2"], metadata

assert kinesis.delete_stream(StreamName="clicks")["ResponseMetadata"]["HTTPStatusCode"] == 200

events = list(kinesis.subscribe_to_shard(ConsumerARN="c", ShardId="0", StartingPosition={"Type": "LATEST"})["EventStream"])
records = [record for event in events for record in event["SubscribeToShardEvent"]["Records"]]
assert [record["Data"] for record in records] == blobs, records
assert all(record["ApproximateArrivalTimestamp"].timestamp() == 1767225600.123 for record in records), records

stream = kinesis.subscribe_to_shard(ConsumerARN="c", ShardId="failing", StartingPosition={"Type": "LATEST"})["EventStream"]
code, message = error(lambda: list(stream))
assert (code, message) == ("ResourceInUseException", "taken over"), (code, message)

code, message = error(kinesis.put_record, StreamName="gone", PartitionKey="a", Data=b"")
assert (code, message) == ("ResourceNotFoundException", "Stream gone not found."), (code, message)
code, message = error(kinesis.put_record, PartitionKey="a", Data=b"")
assert code == "ValidationException" and "Value null at 'streamName'" in message, (code, message)
code, message = error(kinesis.list_streams)
assert code == "UnknownOperationException", (code, message)

code, message = error(client(key, "another").put_record, StreamName="clicks", PartitionKey="a", Data=b"")
assert code == "InvalidSignatureException" and "does not match" in message, (code, message)
code, message = error(client("UNKNOWN", secret).put_record, StreamName="clicks", PartitionKey="a", Data=b"")
assert code == "UnrecognizedClientException", (code, message)

# Whatever stands in path and query is canonicalised alike at both ends.
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

PATHS = ["/", "/a%20b/c", "/a%2Fb", "/~x/-_.", "/?b=2&a=1", "/?a=%20%2F&a=", "/x?key=%E2%82%AC&sp=a%2Bb&-_.~=1"]
for path in PATHS:
    # botocore presigns without a body: the answer is then that of an operation which has got none.
    presigned = (SigV4QueryAuth, b"", b"SerializationException")
    for auth, data, expected in (SigV4Auth, b'{"StreamName":"gone"}', b"ResourceNotFoundException"), presigned:
        request = AWSRequest("POST", endpoint + path, data=data)
        request.headers["Content-Type"] = "application/x-amz-json-1.1"
        request.headers["X-Amz-Target"] = "Kinesis_20131202.PutRecord"
        request.headers["X-Amz-Spaces"] = "  a   b  "
        auth(Credentials(key, secret), "kinesis", "eu-west-1").add_auth(request)
        answer = URLLib3Session().send(request.prepare())
        assert expected in answer.content, (auth, path, answer.content)

print("botocore is content")
