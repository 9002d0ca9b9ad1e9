"""examples/flights computed anew by DuckDB from the same files: `flights.py <folder of the data> <folder of the output>`."""

import csv
import sys

from common import DEAD_LETTERS, Judge, records

data, out = sys.argv[1], sys.argv[2]
judge = Judge()
name = "flights-2013-01.csv"

# The flights with the byte offset of each, which is the row's identity.
rows = list(records(f"{data}/{name}", skip_header=True))
header = next(csv.reader(open(f"{data}/{name}")))
judge.run("CREATE TABLE raw (pos BIGINT, " + ", ".join(f'"{c}" VARCHAR' for c in header) + ")")
values = [[at, *(None if v == "NA" else v for v in next(csv.reader([text])))] for at, text in rows]
with open(f"{out}/oracle.csv", "w", newline="") as file:
    csv.writer(file).writerows([["\\N" if v is None else v for v in row] for row in values])
judge.run(f"COPY raw FROM '{out}/oracle.csv' (NULL '\\N')")

for table, null in [("airports", ""), ("airlines", ""), ("planes", "NA"), ("weather-2013-01", "NA")]:
    judge.run(f"CREATE TABLE \"{table.split('-')[0]}\" AS "
              f"FROM read_csv('{data}/{table}.csv', all_varchar = true, nullstr = '{null}')")

judge.run("""
CREATE TABLE flights AS
SELECT pos, time_hour::TIMESTAMPTZ AS time_hour, origin, dest, carrier, flight::BIGINT AS flight, tailnum,
       dep_time::INT AS dep_time, arr_time::INT AS arr_time, dep_delay::INT AS dep_delay, air_time::INT AS air_time,
       distance::INT AS distance
FROM raw;
CREATE TABLE good AS FROM flights
WHERE dep_time IS NOT NULL AND air_time IS NOT NULL AND coalesce(arr_time < 2400, true);
CREATE TABLE wanted AS
SELECT f.pos, f.time_hour, f.origin, f.dest, a.name AS dest_name, a.tzone AS dest_zone, f.carrier, l.name AS airline,
       f.flight, sha256(f.tailnum) AS tailnum, p.model AS plane_model, p.year::BIGINT AS built, p.seats::BIGINT AS seats,
       f.dep_delay,
       CASE WHEN f.dep_delay < 60 THEN 'short' WHEN f.dep_delay < 120 THEN 'medium' ELSE 'long' END AS delay_class,
       f.air_time, f.distance, f.distance::DOUBLE / (f.air_time::DOUBLE / 60.0::DOUBLE) AS speed_mph,
       w.temp::DOUBLE AS temp, w.wind_speed::DOUBLE AS wind_speed, w.visib::DOUBLE AS visib, a.faa IS NULL AS lost
FROM good f
LEFT JOIN airports a ON a.faa = f.dest
JOIN airlines l ON l.carrier = f.carrier
LEFT JOIN planes p ON p.tailnum = f.tailnum
LEFT JOIN weather w ON w.origin = f.origin AND w.time_hour = strftime(f.time_hour AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ')
WHERE f.dep_delay > 15;
""")

columns = """time_hour::TIMESTAMPTZ AS time_hour, origin, dest, dest_name, dest_zone, carrier, airline, flight::BIGINT AS flight,
tailnum, plane_model, built::BIGINT AS built, seats::BIGINT AS seats, dep_delay::INT AS dep_delay, delay_class,
air_time::INT AS air_time, distance::INT AS distance, speed_mph::DOUBLE AS speed_mph, temp::DOUBLE AS temp,
wind_speed::DOUBLE AS wind_speed, visib::DOUBLE AS visib"""

judge.same("late", f"SELECT {columns} FROM read_parquet('{out}/late/**/*.parquet', hive_partitioning = true)",
           f"SELECT {columns} FROM wanted WHERE NOT lost AND dep_delay < 120")
judge.same("very-late", f"SELECT {columns} FROM read_json('{out}/very-late.ndjson', format = 'newline_delimited')",
           f"SELECT {columns} FROM wanted WHERE NOT lost AND dep_delay >= 120")
judge.same("dead letters", DEAD_LETTERS.format(f"{out}/dlq"), f"""
SELECT 'flights' AS source, '{name}' AS split, pos AS position, 0::BIGINT AS row_index, 'validate-failed' AS code
FROM flights WHERE pos NOT IN (SELECT pos FROM good)
UNION ALL SELECT 'flights', '{name}', pos, 0, 'lookup-miss' FROM wanted WHERE lost
""")
judge.end()
