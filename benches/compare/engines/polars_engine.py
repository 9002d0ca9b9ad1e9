"""W1 and W2 by Polars' streaming engine: `polars_engine.py W1|W2 ndjson|parquet EVENTS USERS OUTPUT`."""

import sys

import polars as pl

work, form, events, users, out = sys.argv[1:]
schema = {"id": pl.Int64, "ts": pl.String, "user_id": pl.Int64, "event": pl.String, "amount": pl.Float64,
          "country": pl.String, "url": pl.String, "note": pl.String}
rows = pl.scan_ndjson(events, schema=schema).filter(pl.col("amount") >= 500).with_columns(
    (pl.col("amount") * 0.92).alias("amount_eur"), (pl.col("event") + "-" + pl.col("country")).alias("tag"))
if work == "W2":
    rows = rows.join(pl.scan_csv(users), on="user_id", how="left", maintain_order="none")
if form == "ndjson":
    rows.sink_ndjson(f"{out}/all.ndjson", maintain_order=False, engine="streaming")
else:
    rows.sink_parquet(f"{out}/all.parquet", compression="zstd", maintain_order=False, engine="streaming")
