"""Writes data/*: made-up orders of a web shop (NDJSON, nested) and of a store (CSV, flat), with a fixed seed."""
import json, random, pathlib

random.seed(11)
here = pathlib.Path(__file__).parent / "data"
skus = [f"sku-{n:03}" for n in range(40)]
products = ["sku,title,price"] + [f"{s},Thing {s[4:]},{random.randrange(100, 9999) / 100}" for s in skus[:38]]
(here / "products.csv").write_text("\n".join(products) + "\n")

web = []
for n in range(800):
    lines = [{"sku": random.choice(skus), "quantity": random.randrange(1, 5)} for _ in range(random.randrange(1, 4))]
    if n % 97 == 0:
        lines[0]["quantity"] = 0  # breaks a rule
    order = {"order_id": 10_000 + n, "placed": f"2025-04-{n % 30 + 1:02}T{n % 24:02}:15:00Z",
             "customer": {"name": random.choice(["Ana", "Bo", "Çelik", "Дана"]), "country": random.choice(["DE", "FR", "PT"])},
             "lines": lines}
    text = json.dumps(order, ensure_ascii=False)
    if n % 131 == 0:
        text = text.replace('"order_id": ', '"order_id": "A-').replace(', "placed"', '", "placed"')  # an id of the old system
    web.append(text)
(here / "web.ndjson").write_text("\n".join(web) + "\n")

store = ["order_id,placed,sku,quantity,till"]
for n in range(1200):
    quantity = "two" if n % 113 == 0 else random.randrange(1, 9)
    row = f"{50_000 + n},2025-04-{n % 30 + 1:02}T{n % 12 + 8:02}:00:00Z,{random.choice(skus)},{quantity},{random.randrange(1, 4)}"
    if n % 401 == 0:
        row += ",extra"  # one field too many
    store.append(row)
(here / "store.csv").write_text("\n".join(store) + "\n")
