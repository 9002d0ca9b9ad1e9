"""Row count and an order-independent hash of all columns: `fingerprint.py W1|W2 ndjson|parquet FOLDER`."""

import sys

import duckdb

work, form, folder = sys.argv[1:]
types = {"id": "BIGINT", "ts": "VARCHAR", "user_id": "BIGINT", "event": "VARCHAR", "amount": "DOUBLE",
         "country": "VARCHAR", "url": "VARCHAR", "note": "VARCHAR", "amount_eur": "DOUBLE", "tag": "VARCHAR"}
if work == "W2":
    types |= {"name": "VARCHAR", "plan": "VARCHAR", "city": "VARCHAR"}
if form == "ndjson":
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in types.items())
    table = f"read_json('{folder}/*.ndjson', format = 'newline_delimited', columns = {{{columns}}})"
else:
    table = f"read_parquet('{folder}/*.parquet')"
row = ", ".join(f"{name}::{kind}" for name, kind in types.items())
con = duckdb.connect()
print(con.execute(f"SELECT count(*), sum(hash({row})::HUGEINT) FROM {table}").fetchone())
