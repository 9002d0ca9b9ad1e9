"""examples/nexmark: made-up bids have no second maker, so the two queries judge each other and fixed figures judge both.

`nexmark.py <folder of the data, unused> <folder of the output>`.
"""

import sys

from common import Judge

out = sys.argv[2]
judge = Judge()
euros = (f"(SELECT auction, bidder, price_eur, date_time::TIMESTAMPTZ AS date_time FROM read_json('{out}/dear.ndjson', "
         f"format = 'newline_delimited') UNION ALL SELECT auction, bidder, price_eur, date_time::TIMESTAMPTZ "
         f"FROM read_parquet('{out}/cheap/*.parquet'))")
judge.same("number of bids", f"SELECT count(*) AS bids FROM {euros}", "SELECT 50000::BIGINT AS bids")
judge.same("prices on the right side",
           f"SELECT count(*) AS wrong FROM read_json('{out}/dear.ndjson', format = 'newline_delimited') WHERE price_eur < 10000",
           "SELECT 0::BIGINT AS wrong")
judge.same("picked", f"SELECT auction, price * 0.908::DOUBLE AS price_eur, date_time::TIMESTAMPTZ AS date_time "
           f"FROM read_json('{out}/picked.ndjson', format = 'newline_delimited')",
           f"SELECT auction, price_eur, date_time FROM {euros} WHERE auction % 123 = 0")
judge.end()
