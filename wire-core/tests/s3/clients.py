"""What programs over other clients do with S3: python clients.py URL KEY SECRET STORE"""

import os
import subprocess
import sys
import tempfile

import awswrangler
import boto3
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet

url, key, secret, store = sys.argv[1:]
os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret, AWS_DEFAULT_REGION="us-east-1", AWS_ENDPOINT_URL=url,
                  AWS_EC2_METADATA_DISABLED="true")


def aws(*arguments, fails=False):
    done = subprocess.run(["aws", *arguments], capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done
    return done.stdout + done.stderr


# The AWS CLI.
aws("s3", "mb", "s3://lake")
with tempfile.TemporaryDirectory() as folder:
    os.makedirs(f"{folder}/up/sub")
    for name, size in [("a.csv", 10), ("sub/b.bin", 9 << 20), ("sub/ü x.txt", 0)]:
        with open(f"{folder}/up/{name}", "wb") as file:
            file.write(os.urandom(size))
    aws("s3", "sync", f"{folder}/up", "s3://lake/cli")
    assert aws("s3", "sync", f"{folder}/up", "s3://lake/cli") == "", "a second sync has nothing to do"
    listed = aws("s3", "ls", "s3://lake/cli/")
    assert "PRE sub/" in listed and "a.csv" in listed, listed
    assert len(aws("s3", "ls", "--recursive", "s3://lake/cli/").splitlines()) == 3
    aws("s3", "cp", "--recursive", "s3://lake/cli", f"{folder}/down")
    for name in ("a.csv", "sub/b.bin", "sub/ü x.txt"):
        assert open(f"{folder}/up/{name}", "rb").read() == open(f"{folder}/down/{name}", "rb").read(), name
    aws("s3", "mv", "s3://lake/cli/a.csv", "s3://lake/moved.csv")
    assert "text/csv" in aws("s3api", "head-object", "--bucket", "lake", "--key", "moved.csv")
    assert "NoSuchBucket" in aws("s3", "ls", "s3://nowhere", fails=True)
    assert "BucketNotEmpty" in aws("s3", "rb", "s3://lake", fails=True)
    aws("s3", "rm", "--recursive", "s3://lake/cli")
    assert aws("s3", "ls", "s3://lake").split()[-1] == "moved.csv"

# pyarrow, over AWS's SDK for C++.
host = url.removeprefix("http://")
filesystem = pyarrow.fs.S3FileSystem(access_key=key, secret_key=secret, endpoint_override=host, scheme="http",
                                     region="us-east-1", allow_bucket_creation=True)
table = pyarrow.table({"id": list(range(200_000)), "name": [f"name {n % 7}" for n in range(200_000)]})
filesystem.create_dir("lake/arrow/empty")
assert filesystem.get_file_info("lake/arrow/empty").type == pyarrow.fs.FileType.Directory
pyarrow.parquet.write_table(table, "lake/arrow/one.parquet", filesystem=filesystem)
assert pyarrow.parquet.read_table("lake/arrow/one.parquet", filesystem=filesystem) == table
only = pyarrow.parquet.read_table("lake/arrow/one.parquet", filesystem=filesystem, columns=["id"], filters=[("id", "<", 3)])
assert only["id"].to_pylist() == [0, 1, 2]
pyarrow.dataset.write_dataset(table, "lake/arrow/set", format="parquet", partitioning=["name"], partitioning_flavor="hive",
                              filesystem=filesystem)
dataset = pyarrow.dataset.dataset("lake/arrow/set", filesystem=filesystem, partitioning="hive")
assert dataset.count_rows() == 200_000 and dataset.count_rows(filter=pyarrow.dataset.field("name") == "name 3") == 28_571
with filesystem.open_output_stream("lake/arrow/long", metadata={"Content-Type": "text/x"}) as stream:
    for _ in range(30):
        stream.write(b"x" * (1 << 20))
with filesystem.open_input_file("lake/arrow/long") as file:
    assert file.size() == 30 << 20 and file.read_at(5, (20 << 20)) == b"x" * 5
assert boto3.client("s3").head_object(Bucket="lake", Key="arrow/long")["ContentType"] == "text/x"
filesystem.copy_file("lake/arrow/one.parquet", "lake/arrow/two.parquet")
filesystem.move("lake/arrow/two.parquet", "lake/arrow/three.parquet")
names = sorted(info.base_name for info in filesystem.get_file_info(pyarrow.fs.FileSelector("lake/arrow")))
assert names == ["empty", "long", "one.parquet", "set", "three.parquet"], names
assert filesystem.get_file_info("lake/none").type == pyarrow.fs.FileType.NotFound
filesystem.delete_dir("lake/arrow")
assert [info.path for info in filesystem.get_file_info(pyarrow.fs.FileSelector("lake"))] == ["lake/moved.csv"]

# awswrangler.
frame = pandas.DataFrame({"id": range(1000), "day": [f"2024-01-0{1 + n % 3}" for n in range(1000)], "x": [n / 7 for n in range(1000)]})
awswrangler.s3.to_parquet(frame, "s3://lake/wr/one.parquet")
pandas.testing.assert_frame_equal(awswrangler.s3.read_parquet("s3://lake/wr/one.parquet"), frame, check_dtype=False)
written = awswrangler.s3.to_parquet(frame, "s3://lake/wr/set/", dataset=True, partition_cols=["day"], mode="overwrite")
assert len(written["paths"]) == 3
back = awswrangler.s3.read_parquet("s3://lake/wr/set/", dataset=True, partition_filter=lambda part: part["day"] == "2024-01-02")
assert len(back) == 333 and set(back["day"]) == {"2024-01-02"}
awswrangler.s3.to_parquet(frame, "s3://lake/wr/set/", dataset=True, partition_cols=["day"], mode="overwrite_partitions")
assert len(awswrangler.s3.read_parquet("s3://lake/wr/set/", dataset=True)) == 1000
awswrangler.s3.to_csv(frame, "s3://lake/wr/one.csv", index=False)
awswrangler.s3.to_json(frame, "s3://lake/wr/one.json", orient="records", lines=True)
assert len(awswrangler.s3.read_csv("s3://lake/wr/one.csv")) == 1000
assert len(awswrangler.s3.read_json("s3://lake/wr/one.json", lines=True)) == 1000
assert len(awswrangler.s3.list_objects("s3://lake/wr/")) == 6
assert awswrangler.s3.list_directories("s3://lake/wr/") == ["s3://lake/wr/set/"]
assert awswrangler.s3.does_object_exist("s3://lake/wr/one.csv")
assert awswrangler.s3.size_objects("s3://lake/wr/one.csv")["s3://lake/wr/one.csv"] > 1000
awswrangler.s3.copy_objects(["s3://lake/wr/one.csv"], "s3://lake/wr", "s3://lake/copied")
awswrangler.s3.delete_objects("s3://lake/wr/")
assert awswrangler.s3.list_objects("s3://lake/") == ["s3://lake/copied/one.csv", "s3://lake/moved.csv"]
boto3.resource("s3").Bucket("lake").objects.all().delete()
aws("s3", "rb", "s3://lake")

print("the other clients are content")
