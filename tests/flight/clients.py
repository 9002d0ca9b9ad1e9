"""What clients do with a running cluster by Arrow Flight alone, with pyarrow's client.

Arguments: what to do, the folder of certificates and tokens, the sidecars' addresses joined by commas. Facts go to standard
output, one JSON object a line; what is not as it has to be ends the program.
"""

import json
import pathlib
import sys

import pyarrow
from pyarrow import flight

WHAT, CERTS, SIDECARS = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3].split(",")
AUTHORITY = (CERTS / "ca.crt").read_bytes()
# Longest wait for anything that a cluster is to do, in seconds.
PATIENCE = 60


def connect(address):
    return flight.connect(f"grpc+tls://{address}", tls_root_certs=AUTHORITY)


def as_role(role, timeout=PATIENCE):
    token = (CERTS / f"{role}.token").read_text().strip()
    return flight.FlightCallOptions(timeout=timeout, headers=[(b"authorization", f"Bearer {token}".encode())])


def say(**facts):
    print(json.dumps(facts), flush=True)


def expect(holds, what):
    if not holds:
        sys.exit(f"not as it has to be: {what}")


def refused(kind, words, do):
    """The call fails with an error of this kind that has these words."""
    try:
        do()
    except kind as error:
        for word in words:
            expect(word in str(error), f"{word!r} in the error {error}")
        return
    sys.exit(f"it was not refused: {words}")


def ticket(**asked):
    return flight.Ticket(json.dumps(asked))


def path(*parts):
    return flight.FlightDescriptor.for_path(*parts)


def there(info):
    """A client of the first process where the flight is."""
    return flight.connect(info.endpoints[0].locations[0], tls_root_certs=AUTHORITY)


def watch():
    viewer, seen = as_role("viewer"), []
    for address in SIDECARS:
        flights = {tuple(p.decode() for p in i.descriptor.path): i for i in connect(address).list_flights(options=viewer)}
        seen.append({name: info.schema.names for name, info in flights.items()})
    expect(all(one == seen[0] for one in seen), f"every sidecar names all of them: {seen}")
    say(flights=[[*name, columns] for name, columns in sorted(seen[0].items())])
    info = connect(SIDECARS[-1]).get_flight_info(path("tapped", "events->once"), viewer)
    expect(len(info.endpoints) == 1 and len(info.endpoints[0].locations) == 1, info.endpoints)
    client = there(info)
    everything = client.do_get(info.endpoints[0].ticket, viewer).read_chunk().data
    expect(everything.schema.equals(info.schema), f"{everything.schema} is {info.schema}")
    asked = {"pipeline": "tapped", "edge": "events->once"}
    picked = client.do_get(ticket(**asked, columns=["cents", "id"], where="id % 10 = 3 AND cents > 0", limit=50), viewer).read_all()
    expect(picked.schema.names == ["cents", "id"] and picked.num_rows == 50, picked)
    expect(all(i % 10 == 3 for i in picked["id"].to_pylist()) and min(picked["cents"].to_pylist()) > 0, picked)
    for more, words in [
        ({"columns": ["idd"]}, ["unknown-column", "`idd`", "country"]),
        ({"where": "id > 1 AND idd = 2"}, ["unknown-column", "position 12", "did you mean `id`"]),
        ({"where": "id +"}, ["syntax"]),
        ({"where": "id + 1"}, ["not-boolean"]),
        ({"sort": "id"}, ["ticket-unreadable", "sort"]),
    ]:
        refused(pyarrow.ArrowInvalid, words, lambda: client.do_get(ticket(**asked, **more), viewer).read_all())
    refused(pyarrow.ArrowInvalid, ["flight-unknown"], lambda: client.get_flight_info(path("tapped", "nothing"), viewer))
    nobody = flight.FlightCallOptions(timeout=PATIENCE)
    forged = flight.FlightCallOptions(timeout=PATIENCE, headers=[(b"authorization", b"Bearer of-nothing")])
    for options in [nobody, forged]:
        for call in [
            lambda: list(client.list_flights(options=options)),
            lambda: client.get_flight_info(path("tapped", "events->once"), options),
            lambda: client.do_get(ticket(**asked), options).read_chunk(),
        ]:
            refused(flight.FlightUnauthenticatedError, ["token"], call)
    say(done=True)


def stall():
    """A viewer that does not read until a line comes in, and then reads what it was sent and learns what it missed."""
    info = connect(SIDECARS[0]).get_flight_info(path("tapped", "events->once"), as_role("viewer"))
    reader = there(info).do_get(info.endpoints[0].ticket, as_role("viewer", timeout=10 * PATIENCE))
    reader.read_chunk()
    say(watching=True)
    sys.stdin.readline()
    missed, rows = 0, 0
    while missed == 0:
        chunk = reader.read_chunk()
        rows += chunk.data.num_rows
        missed = json.loads(chunk.app_metadata.to_pybytes())["missed"]
    reader.cancel()
    say(rows=rows, missed=missed)


SCHEMA = pyarrow.schema([("id", pyarrow.int64()), ("name", pyarrow.string())])
# What every batch of the feeder has.
ROWS = 100


def batch(number, schema=SCHEMA):
    ids = range((number - 1) * ROWS, number * ROWS)
    columns = {"id": list(ids), "name": [f"name {i}" for i in ids]}
    return pyarrow.record_batch([pyarrow.array(columns[f.name], f.type) for f in schema], schema=schema)


def where_to_feed(role="operator"):
    for address in SIDECARS:
        try:
            return there(connect(address).get_flight_info(path("fed", "in"), as_role(role)))
        except (flight.FlightError, pyarrow.ArrowException):
            continue
    return None


def put(client, batches, options, *producer, schema=SCHEMA, ipc=None):
    """Puts batches, (number, rows) each, one after the other, and gives the acknowledgements."""
    options = flight.FlightCallOptions(timeout=options[1], headers=options[0], write_options=ipc)
    writer, reader = client.do_put(path("fed", "in", *producer), schema, options)
    answers = []
    with writer:
        for number, rows in batches:
            if producer:
                writer.write_with_metadata(rows, json.dumps({"sequence": number}).encode())
            else:
                writer.write_batch(rows)
        writer.done_writing()
        while (answer := reader.read()) is not None:
            answers.append(json.loads(answer.to_pybytes()))
    return answers


def role(name):
    token = (CERTS / f"{name}.token").read_text().strip()
    return [(b"authorization", f"Bearer {token}".encode())], PATIENCE


def feed():
    client = where_to_feed()
    first = put(client, [(n, batch(n)) for n in (1, 2, 3)], role("operator"), "till")
    expect([a["sequence"] for a in first] == [1, 2, 3] and all(a["epoch"] > 0 for a in first), first)
    # The same again, and one more.
    second = put(client, [(n, batch(n)) for n in (1, 2, 3, 4)], role("operator"), "till")
    expect(second[:3] == [{"sequence": n} for n in (1, 2, 3)] and second[3]["epoch"] > first[2]["epoch"], second)
    # Another order of columns, another form of text, compressed, and without a producer.
    other = pyarrow.schema([("name", pyarrow.large_string()), ("id", pyarrow.int32())])
    for n, codec in [(5, "lz4"), (6, "zstd"), (7, None)]:
        ipc = pyarrow.ipc.IpcWriteOptions(compression=codec)
        third = put(client, [(n, batch(n, other))], role("operator"), schema=other, ipc=ipc)
        expect(len(third) == 1 and third[0].keys() == {"epoch"}, third)
    say(acknowledged=7 * ROWS)


def refuse():
    client = where_to_feed()
    rows = batch(900)
    refused(flight.FlightUnauthorizedError, ["viewer", "operator"], lambda: put(client, [(1, rows)], role("viewer")))
    refused(flight.FlightUnauthenticatedError, ["token"], lambda: put(client, [(1, rows)], ([], PATIENCE)))
    operator = role("operator")
    narrow = pyarrow.schema([("id", pyarrow.int64())])
    words = pyarrow.schema([("id", pyarrow.string()), ("name", pyarrow.string())])
    texts = pyarrow.record_batch([pyarrow.array(["x"]), pyarrow.array(["y"])], schema=words)
    for do, said in [
        (lambda: put(client, [(1, batch(900, narrow))], operator, schema=narrow), ["missing-column", "`name`"]),
        (lambda: put(client, [(1, texts)], operator, schema=words), ["column-type", "`id`"]),
        (lambda: put(client, [(7, rows)], operator, "late"), ["sequence-gap", "1 is the next"]),
        (lambda: put(client, [(0, rows)], operator, "late"), ["sequence-wrong"]),
        (lambda: put(client, [(1, rows)], operator, "a name"), ["producer-name"]),
        (lambda: put(client, [(1, rows)], operator, "late", "later"), ["descriptor-unreadable"]),
    ]:
        refused(pyarrow.ArrowInvalid, said, do)
    hostile(client, operator)
    # The source is none the worse.
    expect(len(put(client, [(1, batch(8))], operator, "after")) == 1, "it still takes rows")
    say(done=True)


def hostile(client, operator):
    """Small messages that would become large ones, and rows that lie about themselves."""
    one = pyarrow.schema([("id", pyarrow.int64()), ("name", pyarrow.string())])
    letters = pyarrow.record_batch([pyarrow.array([1]), pyarrow.array(["a" * (100 << 20)])], schema=one)
    for codec in ["lz4", "zstd"]:
        ipc = pyarrow.ipc.IpcWriteOptions(compression=codec)
        refused(pyarrow.ArrowInvalid, ["rows-unreadable"], lambda: put(client, [(1, letters)], operator, schema=one, ipc=ipc))
    offsets = pyarrow.py_buffer((0).to_bytes(4, "little") + (3).to_bytes(4, "little"))
    no_text = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, pyarrow.py_buffer(b"a\xff\xfe")])
    no_word = pyarrow.DictionaryArray.from_arrays(pyarrow.array([7], pyarrow.int32()), pyarrow.array(["a"]), safe=False)
    for lie in [no_text, no_word]:
        rows = pyarrow.record_batch([pyarrow.array([1]), lie], names=["id", "name"])
        refused(pyarrow.ArrowInvalid, ["rows-unreadable"], lambda: put(client, [(1, rows)], operator, schema=rows.schema))


def persist():
    """Feeds all batches of a producer, whatever becomes of the sidecars, until each is acknowledged."""
    left = list(range(101, 161))
    while left:
        client = where_to_feed()
        if client is None:
            continue
        try:
            headers, timeout = role("operator")
            options = flight.FlightCallOptions(timeout=timeout, headers=headers)
            writer, reader = client.do_put(path("fed", "in", "stubborn"), SCHEMA, options)
            sent = 0
            while left:
                # Some are on their way while the first of them is waited for.
                while sent < min(4, len(left)):
                    label = json.dumps({"sequence": left[sent] - 100}).encode()
                    writer.write_with_metadata(batch(left[sent]), label)
                    sent += 1
                answer = reader.read()
                if answer is None:
                    break
                expect(json.loads(answer.to_pybytes())["sequence"] == left[0] - 100, "answers come in order")
                left.pop(0)
                sent -= 1
                say(left=len(left))
        except (flight.FlightError, pyarrow.ArrowException) as error:
            print(f"again: {error}", file=sys.stderr)
    say(done=True)


{"watch": watch, "stall": stall, "feed": feed, "refuse": refuse, "persist": persist}[WHAT]()
