"""Comparing relations as multisets in DuckDB."""

import sys

import duckdb


class Judge:
    """Collects differences, and ends the process with code 1 if there were any."""

    def __init__(self):
        self.con = duckdb.connect()
        self.con.execute("SET TimeZone = 'UTC'")
        self.wrong = 0

    def run(self, sql, parameters=None):
        return self.con.execute(sql, parameters)

    def same(self, what, actual, expected):
        """Compares two queries row for row, whatever the order; columns by name."""
        self.run(f"CREATE OR REPLACE TEMP TABLE actual AS {actual}")
        self.run(f"CREATE OR REPLACE TEMP TABLE expected AS {expected}")
        have = [d[0] for d in self.run("SELECT * FROM actual LIMIT 0").description]
        want = [d[0] for d in self.run("SELECT * FROM expected LIMIT 0").description]
        if sorted(have) != sorted(want):
            self.wrong += 1
            print(f"{what}: columns {have}\n  instead of {want}")
            return
        columns = ", ".join(f'"{c}"' for c in want)
        (rows,) = self.run("SELECT count(*) FROM expected").fetchone()
        missing = f"(SELECT {columns} FROM expected EXCEPT ALL SELECT {columns} FROM actual)"
        surplus = f"(SELECT {columns} FROM actual EXCEPT ALL SELECT {columns} FROM expected)"
        for word, query in [("missing", missing), ("too many", surplus)]:
            (count,) = self.run(f"SELECT count(*) FROM {query}").fetchone()
            if count:
                self.wrong += 1
                print(f"{what}: {count} rows {word} of {rows}; columns {want}; some of them:")
                for row in self.run(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {query} ORDER BY ALL LIMIT 5").fetchall():
                    print("   ", row)
        print(f"{what}: {rows} rows expected and compared")
        if rows == 0:
            print(f"{what}: nothing to compare, so the test would show nothing")
            self.wrong += 1

    def end(self):
        sys.exit(1 if self.wrong else 0)


def records(path, skip_header=False):
    """(byte offset, text without its line end) of every line of a file."""
    offset = 0
    with open(path, "rb") as lines:
        for number, line in enumerate(lines):
            if not (skip_header and number == 0):
                yield offset, line.rstrip(b"\r\n").decode()
            offset += len(line)


# Identity and reason of each dead letter; the file's name stands for its URL, which differs from machine to machine.
DEAD_LETTERS = """
SELECT source, regexp_extract(split, '[^/]+$') AS split, position::BIGINT AS position, row_index::BIGINT AS row_index, code
FROM read_parquet('{}/**/*.parquet', hive_partitioning = false, union_by_name = true)
"""
