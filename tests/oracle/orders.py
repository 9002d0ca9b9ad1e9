"""examples/orders computed anew: `orders.py <folder of the data> <folder of the output>`."""

import csv
import json
import sys

from common import DEAD_LETTERS, Judge, records

data, out = sys.argv[1], sys.argv[2]
products = {row["sku"]: row for row in csv.DictReader(open(f"{data}/products.csv"))}
good, dead = [], []


def line(source, split, at, sub, order):
    """One order line through the steps that both kinds of orders share."""
    product = products.get(order["sku"])
    if order["quantity"] <= 0:
        dead.append((source, split, at, sub, "validate-failed"))
    elif product is None:
        dead.append((source, split, at, sub, "lookup-miss"))
    else:
        price = float(product["price"])
        good.append(order | {"title": product["title"], "price": price, "total": price * order["quantity"]})


for at, text in records(f"{data}/web.ndjson"):
    order = json.loads(text)
    if not isinstance(order["order_id"], int):
        dead.append(("web", "web.ndjson", at, 0, "json-type"))
        continue
    for sub, item in enumerate(order["lines"]):
        line("web", "web.ndjson", at, sub, {
            "order_id": order["order_id"], "placed": order["placed"], "channel": "web", "till": None, **item,
            "customer_name": order["customer"]["name"], "country": order["customer"]["country"]})
for at, text in records(f"{data}/store.csv", skip_header=True):
    fields = next(csv.reader([text]))
    if len(fields) != 5:
        dead.append(("store", "store.csv", at, 0, "csv-columns"))
    elif not fields[3].isdigit():
        dead.append(("store", "store.csv", at, 0, "cast-failed"))
    else:
        line("store", "store.csv", at, 0, {
            "order_id": int(fields[0]), "placed": fields[1], "channel": "store", "till": int(fields[4]), "sku": fields[2],
            "quantity": int(fields[3]), "customer_name": None, "country": None})

with open(f"{out}/oracle.ndjson", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in good)

judge = Judge()
types = {"order_id": "BIGINT", "placed": "TIMESTAMPTZ", "channel": "VARCHAR", "customer_name": "VARCHAR", "country": "VARCHAR",
         "till": "BIGINT", "sku": "VARCHAR", "title": "VARCHAR", "quantity": "BIGINT", "price": "DOUBLE", "total": "DOUBLE"}
columns = "{" + ", ".join(f"{k}: '{v}'" for k, v in types.items()) + "}"
judge.run(f"CREATE TABLE wanted AS FROM read_json('{out}/oracle.ndjson', format = 'newline_delimited', columns = {columns})")
judge.run("CREATE TABLE dead (source VARCHAR, split VARCHAR, position BIGINT, row_index BIGINT, code VARCHAR)")
judge.con.executemany("INSERT INTO dead VALUES (?, ?, ?, ?, ?)", dead)
judge.same("lines", f"FROM read_json('{out}/lines.ndjson', format = 'newline_delimited', columns = {columns})", "FROM wanted")
judge.same("large", f"FROM read_csv('{out}/large.csv', header = true, columns = {columns})", "FROM wanted WHERE total >= 300")
judge.same("dead letters", DEAD_LETTERS.format(f"{out}/dlq"), "FROM dead")
judge.end()
