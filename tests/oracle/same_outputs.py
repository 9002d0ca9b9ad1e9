"""Two output folders of the kill harness as multisets: `same_outputs.py <undisturbed> <killed>`.

NDJSON is compared line by line as text, Parquet row by row, dead letters by identity, reason and content.
"""

import sys

from common import Judge

expected, actual = sys.argv[1], sys.argv[2]
judge = Judge()


def lines(folder):
    return (f"SELECT line FROM read_csv('{folder}/big/*.ndjson', columns = {{'line': 'VARCHAR'}}, delim = '\\x01', "
            "quote = '', escape = '', header = false)")


def dead(folder):
    return (f"SELECT source, regexp_extract(split, '[^/]+$') AS split, position, row_index, operator_name, code, "
            f"message, column_name, raw, row_json FROM read_parquet('{folder}/dlq/**/*.parquet', hive_partitioning = false)")


judge.same("big", lines(actual), lines(expected))
judge.same("small", f"FROM read_parquet('{actual}/small/*.parquet')", f"FROM read_parquet('{expected}/small/*.parquet')")
judge.same("dead letters", dead(actual), dead(expected))
judge.end()
