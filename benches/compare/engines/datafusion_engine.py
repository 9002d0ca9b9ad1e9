"""W1 and W2 by DataFusion: `datafusion_engine.py W1|W2 ndjson|parquet EVENTS USERS OUTPUT`."""

import sys

import datafusion
import pyarrow as pa

work, form, events, users, out = sys.argv[1:]
context = datafusion.SessionContext()
schema = pa.schema([("id", pa.int64()), ("ts", pa.string()), ("user_id", pa.int64()), ("event", pa.string()),
                    ("amount", pa.float64()), ("country", pa.string()), ("url", pa.string()), ("note", pa.string())])
context.register_json("e", events, schema=schema, file_extension=".ndjson")
select = "e.*, e.amount * CAST(0.92 AS DOUBLE) AS amount_eur, e.event || '-' || e.country AS tag"
table = "e"
if work == "W2":
    context.register_csv("u", users)
    select += ", u.name, u.plan, u.city"
    table += " LEFT JOIN u ON e.user_id = u.user_id"
query = f"SELECT {select} FROM {table} WHERE e.amount >= 500"
kind = "JSON" if form == "ndjson" else "PARQUET OPTIONS ('format.compression' 'zstd(3)')"
context.sql(f"COPY ({query}) TO '{out}/all.{form}' STORED AS {kind}").collect()
