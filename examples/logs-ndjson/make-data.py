"""Writes data/access.ndjson.gz: made-up web access logs with a fixed seed. Same bytes on every run."""
import gzip, json, random, datetime, pathlib

random.seed(7)
at = datetime.datetime(2025, 3, 1, tzinfo=datetime.timezone.utc)
rows, lines = [], []
for n in range(3000):
    at += datetime.timedelta(milliseconds=random.randrange(200, 4000))
    ip = f"203.0.113.{random.randrange(1, 255)}"
    user = random.choice(["ana", "ben", "chloe", "dmitri", "-"])
    path = random.choice(["/", "/cart", "/checkout", "/item/%d" % random.randrange(50), "/search"])
    status = random.choices([200, 301, 404, 500], [90, 4, 4, 2])[0]
    line = f"{ip} {user} \"GET {path}\" {status} {random.randrange(100, 90000)}"
    if n % 211 == 0:
        line = "-- MARK --"  # what some loggers write between records
    rows.append({"id": f"req-{n:05}", "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                 "host": random.choice(["web-1", "web-2"]), "line": line})
for n, row in enumerate(rows):
    lines.append(json.dumps(row))
    if n % 17 == 0:  # the shipper sent it twice
        lines.append(json.dumps(row))
    if n % 503 == 0:  # a broken record
        lines.append(json.dumps(row)[:40])
out = pathlib.Path(__file__).parent / "data" / "access.ndjson.gz"
out.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
