"""AWS's library for the KPL's aggregated records, from the other side of the test.

kpl.py aggregate          prints aggregates: the partition key, and the payload in hexadecimal
kpl.py deaggregate HEX    prints the user records of an aggregate: partition key and text
"""

import base64
import sys

from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records


def show(record):
    key, _, data = record.get_contents()
    print(key, bytes(data).hex())


if sys.argv[1] == "aggregate":
    aggregator = RecordAggregator(max_size=600)
    for number in range(50):
        hash_key = str(number) if number % 2 == 0 else None
        full = aggregator.add_user_record(f"key-{number % 7}", f"üser {number}".encode(), hash_key)
        if full:
            show(full)
    rest = aggregator.clear_and_get()
    if rest:
        show(rest)
else:
    record = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "sequenceNumber": "1",
            "approximateArrivalTimestamp": 1.0,
            "partitionKey": "k",
            "data": base64.b64encode(bytes.fromhex(sys.argv[2])),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "shardId-000000000000:1",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "a",
        "awsRegion": "us-east-1",
        "eventSourceARN": "a",
    }
    for user in deaggregate_records([record]):
        print(user["kinesis"]["partitionKey"], base64.b64decode(user["kinesis"]["data"]).decode())
