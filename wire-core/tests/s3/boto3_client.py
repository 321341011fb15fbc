"""What programs do with S3, by boto3: python boto3_client.py URL KEY SECRET STORE

STORE is `files` for a directory of files, else `memory`: some things differ, as the documentation says."""

import base64
import datetime
import hashlib
import io
import sys
import threading
import urllib.error
import urllib.request

import boto3
import botocore.exceptions
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

url, key, secret, store = sys.argv[1:]
session = dict(endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret, region_name="eu-central-1")
s3 = boto3.client("s3", **session, config=Config(retries={"max_attempts": 1}))
MIB = 1 << 20


def refused(code, call, status=None, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        if status:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error
        return error.response["Error"].get("Message", "")
    raise AssertionError(f"{code} was expected")


def keys(**arguments):
    found = s3.list_objects_v2(Bucket="data", **arguments)
    return [one["Key"] for one in found.get("Contents", [])], [
        one["Prefix"] for one in found.get("CommonPrefixes", [])
    ]


# Buckets.
refused("NoSuchBucket", s3.put_object, 404, Bucket="data", Key="a", Body=b"")
refused("NoSuchBucket", s3.get_object, 404, Bucket="data", Key="a")
refused("404", s3.head_bucket, 404, Bucket="data")
s3.create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
refused("BucketAlreadyOwnedByYou", s3.create_bucket, 409, Bucket="data",
        CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
refused("InvalidBucketName", boto3.client("s3", **session).create_bucket, 400, Bucket="ab..c")
s3.head_bucket(Bucket="data")
assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == ["data"]
assert s3.list_buckets()["Buckets"][0]["CreationDate"] > datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
s3.get_bucket_location(Bucket="data")
assert "Status" not in s3.get_bucket_versioning(Bucket="data")
assert "keeps its own data" in refused("AccessDenied", s3.list_objects_v2, 403, Bucket="streams")
refused("AccessDenied", s3.put_object, 403, Bucket="streams", Key="a", Body=b"x")
refused("AccessDenied", s3.get_object, 403, Bucket="streams", Key="claim")

# An object, with what is said about it.
refused("NoSuchKey", s3.get_object, 404, Bucket="data", Key="a")
refused("404", s3.head_object, 404, Bucket="data", Key="a")
put = s3.put_object(Bucket="data", Key="a", Body=b"0123456789")
got = s3.get_object(Bucket="data", Key="a")
assert got["Body"].read() == b"0123456789" and got["ETag"] == put["ETag"] and got["ContentLength"] == 10
assert got["ContentType"] == "binary/octet-stream" and got["Metadata"] == {}
assert abs(got["LastModified"] - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=5)
described = dict(ContentType="text/csv", ContentEncoding="gzip", CacheControl="no-cache", ContentLanguage="de",
                 ContentDisposition='attachment; filename="x.csv"', Metadata={"who": "me", "what": "a b"})
s3.put_object(Bucket="data", Key="described", Body=b"x", **described)
for found in (s3.get_object(Bucket="data", Key="described"), s3.head_object(Bucket="data", Key="described")):
    assert {name: found[name] for name in described} == described, found
s3.put_object(Bucket="data", Key="described", Body=b"y")
found = s3.head_object(Bucket="data", Key="described")
assert found["Metadata"] == {} and found["ContentType"] == "binary/octet-stream" and "CacheControl" not in found
refused("NotImplemented", s3.put_object, 501, Bucket="data", Key="t", Body=b"", Tagging="a=b")
refused("NotImplemented", s3.get_object, 501, Bucket="data", Key="a", VersionId="abc")

# Ranges and conditions.
for wanted, expected, told in [("bytes=2-4", b"234", "bytes 2-4/10"), ("bytes=7-", b"789", "bytes 7-9/10"),
                               ("bytes=-3", b"789", "bytes 7-9/10"), ("bytes=5-99", b"56789", "bytes 5-9/10")]:
    got = s3.get_object(Bucket="data", Key="a", Range=wanted)
    assert got["Body"].read() == expected and got["ContentRange"] == told, got
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
assert s3.head_object(Bucket="data", Key="a", Range="bytes=2-4")["ContentLength"] == 3
refused("InvalidRange", s3.get_object, 416, Bucket="data", Key="a", Range="bytes=10-")
s3.put_object(Bucket="data", Key="empty", Body=b"")
refused("InvalidRange", s3.get_object, 416, Bucket="data", Key="empty", Range="bytes=0-")
assert s3.get_object(Bucket="data", Key="empty")["Body"].read() == b""
tag, modified = put["ETag"], s3.head_object(Bucket="data", Key="a")["LastModified"]
hour = datetime.timedelta(hours=1)
s3.get_object(Bucket="data", Key="a", IfMatch=tag, IfModifiedSince=modified - hour)
refused("PreconditionFailed", s3.get_object, 412, Bucket="data", Key="a", IfMatch='"other"')
refused("304", s3.get_object, 304, Bucket="data", Key="a", IfNoneMatch=tag)
refused("304", s3.get_object, 304, Bucket="data", Key="a", IfModifiedSince=modified)
refused("PreconditionFailed", s3.get_object, 412, Bucket="data", Key="a", IfUnmodifiedSince=modified - hour)
got = s3.get_object(Bucket="data", Key="a", ResponseContentType="text/plain", ResponseCacheControl="max-age=1")
assert got["ContentType"] == "text/plain" and got["CacheControl"] == "max-age=1"

# Puts under a condition; of many at once, one wins.
refused("PreconditionFailed", s3.put_object, 412, Bucket="data", Key="a", Body=b"x", IfNoneMatch="*")
s3.put_object(Bucket="data", Key="new", Body=b"x", IfNoneMatch="*")
refused("NoSuchKey", s3.put_object, 404, Bucket="data", Key="none", Body=b"x", IfMatch=tag)
tag = s3.put_object(Bucket="data", Key="counter", Body=b"0")["ETag"]
outcomes = []


def compare_and_swap(number):
    try:
        outcomes.append(s3.put_object(Bucket="data", Key="counter", Body=b"%d" % number, IfMatch=tag)["ETag"])
    except botocore.exceptions.ClientError as error:
        outcomes.append(error.response["Error"]["Code"])


threads = [threading.Thread(target=compare_and_swap, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert outcomes.count("PreconditionFailed") == 7, outcomes
large = bytes(range(256)) * (40 << 10)  # 10 MiB: longer than what is held in memory
s3.put_object(Bucket="data", Key="large", Body=large, IfNoneMatch="*", ContentType="image/x")
refused("PreconditionFailed", s3.put_object, 412, Bucket="data", Key="large", Body=large, IfNoneMatch="*")
got = s3.get_object(Bucket="data", Key="large")
assert got["Body"].read() == large and got["ContentType"] == "image/x"
assert s3.get_object(Bucket="data", Key="large", Range="bytes=8388600-8388620")["Body"].read() == large[8388600:8388621]

# Sums.
for name, value in [("ChecksumSHA256", base64.b64encode(hashlib.sha256(b"abc").digest()).decode()),
                    ("ChecksumSHA1", base64.b64encode(hashlib.sha1(b"abc").digest()).decode()),
                    ("ChecksumCRC32", "NSRBwg==")]:
    assert s3.put_object(Bucket="data", Key="sum", Body=b"abc", **{name: value})[name] == value
    refused("BadDigest", s3.put_object, 400, Bucket="data", Key="sum", Body=b"abd", **{name: value})
md5 = base64.b64encode(hashlib.md5(b"abc").digest()).decode()
s3.put_object(Bucket="data", Key="sum", Body=b"abc", ContentMD5=md5)
refused("BadDigest", s3.put_object, 400, Bucket="data", Key="sum", Body=b"abd", ContentMD5=md5)
refused("InvalidDigest", s3.put_object, 400, Bucket="data", Key="sum", Body=b"abd", ContentMD5="abc")
refused("BadDigest", s3.put_object, 400, Bucket="data", Key="large", Body=large, ContentMD5=md5)
assert s3.get_object(Bucket="data", Key="sum")["Body"].read() == b"abc"
assert s3.head_object(Bucket="data", Key="large")["ContentLength"] == len(large)


class Unseekable(io.RawIOBase):
    """Of unknown sum until it is sent: boto3 sends it in chunks with the sum behind them."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readinto(self, buffer):
        return self.data.readinto(buffer)

    def readable(self):
        return True


s3.upload_fileobj(Unseekable(large), "data", "streamed", Config=TransferConfig(multipart_threshold=100 * MIB))
assert s3.get_object(Bucket="data", Key="streamed")["Body"].read() == large

# Keys that are no plain path.
odd = ["dir/", "aa//b", "/lead", "x/../y", "x/./z", ".%empty", "ü/ß ä+%20&=?#.txt", "q#12", "tab\there", "~{}[]^|`<>\"'\\", "é" * 100]
for one in odd:
    s3.put_object(Bucket="data", Key=one, Body=one.encode())
for one in odd:
    assert s3.get_object(Bucket="data", Key=one)["Body"].read() == one.encode(), one
everything = keys()[0]
assert set(odd) <= set(everything), set(odd) - set(everything)
assert everything == sorted(everything, key=lambda one: one.encode())
for one in odd:
    s3.delete_object(Bucket="data", Key=one)
assert not set(odd) & set(keys()[0])
refused("KeyTooLongError", s3.put_object, 400, Bucket="data", Key="k" * 1025, Body=b"")
if store == "files":
    assert "beside an object" in refused("InvalidRequest", s3.put_object, 400, Bucket="data", Key="a/b", Body=b"")
    refused("KeyTooLongError", s3.put_object, 400, Bucket="data", Key="k" * 300, Body=b"")

# Lists.
s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": one} for one in keys()[0]]})
assert keys() == ([], [])
names = sorted([f"y={year}/m={month}/{part}" for year in (1, 2) for month in range(5) for part in range(7)] + ["y", "z=1", "y=1-x"])
for one in names:
    s3.put_object(Bucket="data", Key=one, Body=b"")
assert keys() == (names, [])
assert keys(Delimiter="/") == (["y", "y=1-x", "z=1"], ["y=1/", "y=2/"])
assert keys(Prefix="y=1", Delimiter="/") == (["y=1-x"], ["y=1/"])
assert keys(Prefix="y=1/", Delimiter="/") == ([], [f"y=1/m={month}/" for month in range(5)])
assert keys(Prefix="y=1/m=3") == ([f"y=1/m=3/{part}" for part in range(7)], [])
assert keys(Prefix="none/") == ([], [])
assert keys(Delimiter="m=") == (["y", "y=1-x", "z=1"], ["y=1/m=", "y=2/m="])
assert keys(StartAfter="y=2/m=4/4")[0] == ["y=2/m=4/5", "y=2/m=4/6", "z=1"]
assert s3.list_objects_v2(Bucket="data", MaxKeys=0)["KeyCount"] == 0
refused("InvalidArgument", s3.list_objects_v2, 400, Bucket="data", ContinuationToken="no token")
for operation in ("list_objects_v2", "list_objects"):
    for delimiter in ("", "/", "m="):
        for size in (1, 3, 1000):
            options = {"Delimiter": delimiter} if delimiter else {}
            pages = s3.get_paginator(operation).paginate(Bucket="data", PaginationConfig={"PageSize": size}, **options)
            found, prefixes = [], []
            for page in pages:
                found += [one["Key"] for one in page.get("Contents", [])]
                prefixes += [one["Prefix"] for one in page.get("CommonPrefixes", [])]
            assert (found, prefixes) == keys(**options), (operation, delimiter, size, found, prefixes)
# Between pages, what was put and deleted is seen.
page = s3.list_objects_v2(Bucket="data", MaxKeys=2, Prefix="y=2/")
s3.put_object(Bucket="data", Key="y=2/m=0/10", Body=b"")
s3.delete_object(Bucket="data", Key="y=2/m=0/2")
page = s3.list_objects_v2(Bucket="data", MaxKeys=2, Prefix="y=2/", ContinuationToken=page["NextContinuationToken"])
assert [one["Key"] for one in page["Contents"]] == ["y=2/m=0/10", "y=2/m=0/3"], page
assert s3.list_objects(Bucket="data")["Contents"][0]["Owner"]["ID"]

# Copies.
s3.put_object(Bucket="data", Key="source", Body=b"0123456789", ContentType="text/x", Metadata={"a": "b"})
s3.create_bucket(Bucket="other.bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
s3.copy_object(Bucket="other.bucket", Key="copy ü", CopySource={"Bucket": "data", "Key": "source"})
got = s3.get_object(Bucket="other.bucket", Key="copy ü")
assert got["Body"].read() == b"0123456789" and got["ContentType"] == "text/x" and got["Metadata"] == {"a": "b"}
s3.copy_object(Bucket="data", Key="source", CopySource="data/source", MetadataDirective="REPLACE", Metadata={"c": "d"})
assert s3.head_object(Bucket="data", Key="source")["Metadata"] == {"c": "d"}
refused("InvalidRequest", s3.copy_object, 400, Bucket="data", Key="source", CopySource="data/source")
refused("NoSuchKey", s3.copy_object, 404, Bucket="data", Key="x", CopySource="data/missing")
refused("NoSuchBucket", s3.copy_object, 404, Bucket="data", Key="x", CopySource="missing/missing")
refused("PreconditionFailed", s3.copy_object, 412, Bucket="data", Key="x", CopySource="data/source", CopySourceIfMatch='"x"')

# Parts.
upload = s3.create_multipart_upload(Bucket="data", Key="parts", ContentType="a/b", Metadata={"p": "q"})["UploadId"]
about = dict(Bucket="data", Key="parts", UploadId=upload)
pieces = {1: b"1" * (5 * MIB), 3: b"3" * (5 * MIB), 7: b"7"}
tags = {number: s3.upload_part(**about, PartNumber=number, Body=pieces[number])["ETag"] for number in (7, 3, 1)}
tags[1] = s3.upload_part(**about, PartNumber=1, Body=pieces[1])["ETag"]
s3.put_object(Bucket="data", Key="parts-source", Body=b"abcdefgh")
copied = s3.upload_part_copy(**about, PartNumber=9, CopySource="data/parts-source", CopySourceRange="bytes=2-4")
assert [one["PartNumber"] for one in s3.list_parts(**about)["Parts"]] == [1, 3, 7, 9]
listed = s3.list_parts(**about, MaxParts=2, PartNumberMarker=1)
assert [one["PartNumber"] for one in listed["Parts"]] == [3, 7] and listed["IsTruncated"]
assert [one["Key"] for one in s3.list_multipart_uploads(Bucket="data")["Uploads"]] == ["parts"]
refused("NoSuchKey", s3.get_object, 404, Bucket="data", Key="parts")


def complete(*numbers, **wrong):
    parts = [{"PartNumber": number, "ETag": wrong.get("tag", tags.get(number))} for number in numbers]
    return s3.complete_multipart_upload(**about, MultipartUpload={"Parts": parts})


refused("InvalidPartOrder", lambda: complete(3, 1), 400)
refused("InvalidPart", lambda: complete(1, tag='"wrong"'), 400)
refused("InvalidPart", lambda: complete(2, tag='"x"'), 400)
tags[9] = copied["CopyPartResult"]["ETag"]
refused("EntityTooSmall", lambda: complete(7, 9), 400)
refused("InvalidArgument", s3.upload_part, 400, **about, PartNumber=10001, Body=b"")
complete(1, 3, 7)
got = s3.get_object(Bucket="data", Key="parts")
assert got["Body"].read() == pieces[1] + pieces[3] + pieces[7] and got["ContentType"] == "a/b" and got["Metadata"] == {"p": "q"}
refused("NoSuchUpload", s3.upload_part, 404, **about, PartNumber=1, Body=b"")
aborted = s3.create_multipart_upload(Bucket="data", Key="aborted")["UploadId"]
s3.upload_part(Bucket="data", Key="aborted", UploadId=aborted, PartNumber=1, Body=b"x")
refused("NoSuchUpload", s3.abort_multipart_upload, 404, Bucket="data", Key="other", UploadId=aborted)
s3.abort_multipart_upload(Bucket="data", Key="aborted", UploadId=aborted)
refused("NoSuchUpload", s3.list_parts, 404, Bucket="data", Key="aborted", UploadId=aborted)
assert "Uploads" not in s3.list_multipart_uploads(Bucket="data")
# As boto3's transfers do it: in parts, by several threads.
config = TransferConfig(multipart_threshold=6 * MIB, multipart_chunksize=5 * MIB)
s3.upload_fileobj(io.BytesIO(large + large), "data", "transferred", Config=config)
back = io.BytesIO()
s3.download_fileobj("data", "transferred", back, Config=config)
assert back.getvalue() == large + large
s3.copy({"Bucket": "data", "Key": "transferred"}, "other.bucket", "transferred", Config=config)
assert s3.get_object(Bucket="other.bucket", Key="transferred")["Body"].read() == large + large

# Presigned.
link = s3.generate_presigned_url("get_object", Params={"Bucket": "data", "Key": "source"})
assert urllib.request.urlopen(link).read() == b"0123456789"
link = s3.generate_presigned_url("put_object", Params={"Bucket": "data", "Key": "put by link"})
urllib.request.urlopen(urllib.request.Request(link, data=b"linked", method="PUT"))
assert s3.get_object(Bucket="data", Key="put by link")["Body"].read() == b"linked"

# Deletes.
s3.delete_object(Bucket="data", Key="was never there")
refused("PreconditionFailed", s3.delete_object, 412, Bucket="data", Key="source", IfMatch='"other"')
deleted = s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "source"}, {"Key": "never"}, {"Key": "parts", "VersionId": "v"}]})
assert sorted(one["Key"] for one in deleted["Deleted"]) == ["never", "source"]
assert deleted["Errors"][0]["Code"] == "NotImplemented"
assert "Deleted" not in s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "parts"}], "Quiet": True})
refused("BucketNotEmpty", s3.delete_bucket, 409, Bucket="data")
for page in s3.get_paginator("list_objects_v2").paginate(Bucket="data", PaginationConfig={"PageSize": 10}):
    s3.delete_objects(Bucket="data", Delete={"Objects": [{"Key": one["Key"]} for one in page["Contents"]]})
assert keys(Delimiter="/") == ([], [])
s3.delete_bucket(Bucket="data")
refused("NoSuchBucket", s3.list_objects_v2, 404, Bucket="data")
assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == ["other.bucket"]

# Who may.
if key != "anyone":
    wrong = boto3.client("s3", **{**session, "aws_secret_access_key": "wrong"})
    refused("SignatureDoesNotMatch", wrong.list_buckets, 403)
    unknown = boto3.client("s3", **{**session, "aws_access_key_id": "unknown"})
    refused("InvalidAccessKeyId", unknown.list_buckets, 403)
    try:
        urllib.request.urlopen(f"{url}/other.bucket/transferred")
        raise AssertionError("unsigned")
    except urllib.error.HTTPError as error:
        assert error.code == 403

print("boto3 is content")
