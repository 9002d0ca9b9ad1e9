"""What a pipeline wrote into an object store, fetched, and into a folder: `same_store.py <folder> <fetched>`."""

import sys

from common import Judge

expected, actual = sys.argv[1], sys.argv[2]
judge = Judge()


def lines(pattern):
    return (f"SELECT line FROM read_csv('{pattern}', columns = {{'line': 'VARCHAR'}}, delim = '\\x01', "
            "quote = '', escape = '', header = false)")


def dead(pattern):
    return (f"SELECT source, regexp_extract(split, '[^/]+$') AS split, position, row_index, operator_name, code, "
            f"message, column_name, raw, row_json FROM read_parquet('{pattern}', hive_partitioning = false)")


judge.same("single", lines(f"{actual}/single/*.txt"), lines(f"{expected}/single/all.ndjson"))
# The column of the folders' names is not in the files: the files' own columns are what was fetched.
judge.same("folders", f"FROM read_parquet('{actual}/folders/*.parquet')",
           f"FROM read_parquet('{expected}/folders/**/*.parquet', hive_partitioning = false)")
judge.same("dead letters", dead(f"{actual}/dlq/*.parquet"), dead(f"{expected}/dlq/**/*.parquet"))
judge.end()
