"""JSON lines to zstd Parquet by `part`, with one thread.

    python3 firehose.py duckdb|pyarrow INPUT FOLDER

Prints how many seconds it took on the clock and on the core, without Python's start.
"""

import sys
import time

name, source, folder = sys.argv[1:]
if name == "duckdb":
    import duckdb

    connection = duckdb.connect()
    connection.execute("set threads = 1")
else:
    import pyarrow
    import pyarrow.dataset
    import pyarrow.json

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
begun, used = time.perf_counter(), time.process_time()
if name == "duckdb":
    read = f"select * from read_json('{source}', format = 'newline_delimited')"
    connection.execute(f"copy ({read}) to '{folder}' (format parquet, compression zstd, partition_by (part))")
else:
    table = pyarrow.json.read_json(source)
    parquet = pyarrow.dataset.ParquetFileFormat()
    pyarrow.dataset.write_dataset(
        table,
        folder,
        format=parquet,
        file_options=parquet.make_write_options(compression="zstd"),
        partitioning=["part"],
        partitioning_flavor="hive",
        use_threads=False,
    )
print(time.perf_counter() - begun, time.process_time() - used)
