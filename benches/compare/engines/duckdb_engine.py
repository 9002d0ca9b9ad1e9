"""W1 and W2 by DuckDB: `duckdb_engine.py W1|W2 ndjson|parquet EVENTS USERS OUTPUT`."""

import sys

import duckdb

work, form, events, users, out = sys.argv[1:]
columns = ("{id: 'BIGINT', ts: 'VARCHAR', user_id: 'BIGINT', event: 'VARCHAR', amount: 'DOUBLE', country: 'VARCHAR', "
           "url: 'VARCHAR', note: 'VARCHAR'}")
table = f"read_json('{events}', format = 'newline_delimited', columns = {columns}) e"
select = "e.*, e.amount * 0.92::DOUBLE AS amount_eur, e.event || '-' || e.country AS tag"
if work == "W2":
    select += ", u.name, u.plan, u.city"
    table += f" LEFT JOIN read_csv('{users}', header = true) u USING (user_id)"
to = "FORMAT json" if form == "ndjson" else "FORMAT parquet, COMPRESSION zstd"
con = duckdb.connect()
con.execute("SET preserve_insertion_order = false")
con.execute(f"COPY (SELECT {select} FROM {table} WHERE e.amount >= 500) TO '{out}/all.{form}' ({to})")
