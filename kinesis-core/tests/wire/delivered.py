"""Sums the ids of the flights in delivered files, as other tools read them.

    python3 delivered.py parquet|orc|lines FOLDER

Prints, for each reader, how many there are and the sum of their ids.
"""

import gzip
import io
import json
import pathlib
import sys
import zipfile

kind, folder = sys.argv[1], pathlib.Path(sys.argv[2])
files = sorted(path for path in folder.rglob("*") if path.is_file())


def hadoop_snappy(data):
    plain = b""
    while data:
        length, compressed = (int.from_bytes(data[at : at + 4], "big") for at in (0, 4))
        block = bytes(cramjam.snappy.decompress_raw(data[8 : 8 + compressed]))
        assert len(block) == length
        plain, data = plain + block, data[8 + compressed :]
    return plain


def lines(path):
    data = path.read_bytes()
    match path.suffix:
        case ".gz":
            data = gzip.decompress(data)
        case ".zip":
            archive = zipfile.ZipFile(io.BytesIO(data))
            assert archive.testzip() is None
            [member] = archive.namelist()
            assert member == path.stem
            data = archive.read(member)
        case ".snappy":
            data = bytes(cramjam.snappy.decompress(data))
        case ".hsnappy":
            data = hadoop_snappy(data)
    return [json.loads(line)["id"] for line in data.splitlines()]


if kind == "parquet":
    import duckdb
    import pyarrow.dataset

    table = pyarrow.dataset.dataset([str(path) for path in files], format="parquet").to_table()
    print("pyarrow", table.num_rows, sum(table["id"].to_pylist()))
    found = duckdb.connect().execute(f"select count(*), sum(id) from read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
    print("duckdb", *found.fetchone())
elif kind == "orc":
    import pyarrow.orc

    tables = [pyarrow.orc.ORCFile(str(path)).read() for path in files]
    ids = [number for table in tables for number in table["id"].to_pylist()]
    print("pyarrow", len(ids), sum(ids))
    types = {(field.name, str(field.type)) for table in tables for field in table.schema}
    print("types", *sorted(f"{name}:{type}" for name, type in types))
    carriers = {carrier for table in tables for carrier in table["carrier"].to_pylist()}
    print("carriers", *sorted(carriers))
else:
    import cramjam

    ids = [number for path in files for number in lines(path)]
    print("python", len(ids), sum(ids))
