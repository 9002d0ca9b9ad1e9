"""examples/logs-ndjson computed anew: `logs_ndjson.py <folder of the data> <folder of the output>`."""

import gzip
import json
import re
import sys

from common import DEAD_LETTERS, Judge

data, out = sys.argv[1], sys.argv[2]
name = "access.ndjson.gz"
pattern = re.compile(r'^(?P<ip>\S+) (?P<user>\S+) "(?P<method>[A-Z]+) (?P<path>\S+)" (?P<status>\d{3}) (?P<bytes>\d+)$')

# Positions are offsets in the decompressed text. All times lie in order and duplicates within the window.
good, dead, seen, offset = [], [], set(), 0
for line in gzip.open(f"{data}/{name}"):
    at, offset = offset, offset + len(line)
    try:
        row = json.loads(line)
    except ValueError:
        dead.append((at, "json-syntax"))
        continue
    match = pattern.match(row.pop("line"))
    if not match:
        dead.append((at, "parse-regex"))
        continue
    if row["id"] in seen:
        continue
    seen.add(row["id"])
    good.append(row | match.groupdict())

with open(f"{out}/oracle.ndjson", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in good)

judge = Judge()
judge.run(f"""
CREATE TABLE wanted AS
SELECT id, ts::TIMESTAMPTZ AS ts, host, repeat('*', length(ip) - 3) || right(ip, 3) AS ip, sha256("user") AS "user", method,
       path, status::INT AS status, bytes::BIGINT AS bytes, split_part(path, '/', 2) AS section
FROM read_json('{out}/oracle.ndjson', format = 'newline_delimited', columns = {{id: 'VARCHAR', ts: 'VARCHAR',
     host: 'VARCHAR', ip: 'VARCHAR', "user": 'VARCHAR', method: 'VARCHAR', path: 'VARCHAR', status: 'VARCHAR', bytes: 'VARCHAR'}});
CREATE TABLE dead (position BIGINT, code VARCHAR);
""")
judge.con.executemany("INSERT INTO dead VALUES (?, ?)", dead)
columns = ("id, ts::TIMESTAMPTZ AS ts, host, ip, \"user\", method, path, status::INT AS status, bytes::BIGINT AS bytes, "
           "coalesce(section, '') AS section")
judge.same("pages", f"SELECT {columns} FROM read_parquet('{out}/pages/*.parquet')", "FROM wanted")
judge.same("errors", f"SELECT {columns} FROM read_csv('{out}/errors.csv', header = true)", "FROM wanted WHERE status >= 500")
judge.same("dead letters", DEAD_LETTERS.format(f"{out}/dlq"),
           f"SELECT 'access' AS source, '{name}' AS split, position, 0::BIGINT AS row_index, code FROM dead")
judge.end()
