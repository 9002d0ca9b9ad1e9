"""Conveyor against DuckDB, Polars and DataFusion on the same files. One command:

    python3 benches/compare/run.py

Makes 1 GB of events, checks that all engines write the same rows, then runs them in turn (A B A B ...) and prints tables
for docs/performance.md. Needs cargo, python3 with venv, and the Python registry for the peers the first time.
"""

import argparse
import shutil
import subprocess
import time

from harness import (ENGINES, ROOT, build, data, free_port, fresh, machine, measure, metric, peers, ratio, say, span, table)

WORKS = [("W1", "ndjson"), ("W1", "parquet"), ("W2", "ndjson"), ("W2", "parquet")]
ALL = ["conveyor", "duckdb", "polars", "datafusion"]


class Conveyor:
    """Runs manifests from benches/compare/pipelines with the placeholders filled in."""

    def __init__(self):
        self.binary = build("conveyor-cli", "conveyorctl")

    def manifest(self, pipeline, folder, out, form="ndjson", interval="1s", dlq="true", branches=1):
        text = (ROOT / "benches" / "compare" / "pipelines" / f"{pipeline}.yaml").read_text()
        lines = []
        for line in text.splitlines():
            copies = range(branches) if line.endswith("# each") else [0]
            lines += [line.replace("{branch}", str(n)) for n in copies]
        text = "\n".join(lines)
        values = {"events": folder / "events.ndjson", "users": folder / "users.csv", "output": out / "rows",
                  "dead": out / "dead", "format": form, "interval": interval, "dlq": dlq}
        for key, value in values.items():
            text = text.replace("{" + key + "}", str(value))
        path = out / "pipeline.yaml"
        path.write_text(text)
        return path

    def run(self, pipeline, folder, name, cores=None, **settings):
        out = fresh(name)
        path = self.manifest(pipeline, folder, out, **settings)
        return measure([self.binary, "run", "-q", "-f", path, "--data-dir", out / "data"], cores)


def one(engine, work, form, folder, conveyor, python):
    """One measured run; the output's folder is compare/out/<engine>."""
    if engine == "conveyor":
        return conveyor.run(work, folder, engine, form=form)
    out = fresh(engine) / "rows"
    out.mkdir()
    script = ENGINES / f"{engine}_engine.py"
    return measure([python, script, work, form, folder / "events.ndjson", folder / "users.csv", out])


def fingerprint(engine, work, form, python):
    from harness import target_dir
    rows = target_dir() / "compare" / "out" / engine / "rows"
    done = subprocess.run([python, ENGINES / "fingerprint.py", work, form, rows], check=True, capture_output=True)
    return done.stdout.decode().strip()


def compare(arguments, conveyor):
    python, folder = peers(), data(arguments.bytes)
    rows = []
    for work, form in WORKS:
        if arguments.only and arguments.only != f"{work}-{form}":
            continue
        samples = {engine: [] for engine in arguments.engines}
        prints = {}
        for turn in range(arguments.pairs + 1):
            for engine in arguments.engines:
                sample = one(engine, work, form, folder, conveyor, python)
                say(f"{work} {form} {engine}: {sample['cpu']:.2f} CPU s, {sample['wall']:.2f} s, {sample['rss']:.0f} MiB")
                if turn == 0:  # warms the page cache, and is what the outputs are compared from
                    prints[engine] = fingerprint(engine, work, form, python)
                else:
                    samples[engine].append(sample)
        if len(set(prints.values())) != 1:
            raise SystemExit(f"{work} {form}: the outputs differ (rows, hash): {prints}")
        base = samples.get("duckdb")
        for engine, taken in samples.items():
            against = f"{ratio(taken, base, 'cpu'):.2f}" if base else "-"
            rows.append([f"{work} to {form}", engine, span(taken, "cpu"), against, span(taken, "wall"), span(taken, "rss", 0)])
    head = ["work", "engine", "CPU s", "CPU against DuckDB", "wall s", "peak MiB"]
    return f"{arguments.bytes:,} bytes, {arguments.pairs} runs each in turn, median (minimum to maximum)\n\n" + table(head, rows)


def in_turn(title, pairs, variants, key="cpu"):
    """Runs variants in turn and shows each against the first. `variants`: name -> function that gives one sample."""
    samples = {name: [] for name in variants}
    for turn in range(pairs + 1):
        for name, run in variants.items():
            sample = run()
            say(f"{title}, {name}: {sample['cpu']:.2f} CPU s, {sample['wall']:.2f} s, {sample['rss']:.0f} MiB")
            if turn > 0:
                samples[name].append(sample)
    base = next(iter(samples.values()))
    rows = [[name, span(s, "cpu"), span(s, "wall"), span(s, "rss", 0), f"{ratio(s, base, key):.3f}"]
            for name, s in samples.items()]
    return table([title, "CPU s", "wall s", "peak MiB", f"{key} against the first"], rows)


def epochs(arguments, conveyor):
    folder = data(arguments.bytes)
    run = lambda interval: lambda: conveyor.run("W1", folder, "epochs", interval=interval)
    return in_turn("epochs", arguments.pairs, {"none until the end": run("1h"), "every second": run("1s")})


def dlq(arguments, conveyor):
    clean, some, many = data(arguments.bytes), data(arguments.bytes, 1000), data(arguments.bytes, 10)
    run = lambda folder, on: lambda: conveyor.run("W1", folder, "dlq", dlq=on)
    return in_turn("dead letters", arguments.pairs, {
        "clean data, off": run(clean, "false"), "clean data, on": run(clean, "true"),
        "1 bad row in 1,000": run(some, "true"), "1 bad row in 10": run(many, "true")})


def cores(arguments, conveyor):
    folder = data(arguments.bytes)
    run = lambda cpus: lambda: conveyor.run("W1", folder, "cores", cores=cpus)
    return in_turn("cores", arguments.pairs, {"one": run({0}), "two": run({0, 1})}, key="wall")


def branches(arguments, conveyor):
    folder = data(arguments.bytes)
    run = lambda n: lambda: conveyor.run("branches", folder, "branches", branches=n)
    return in_turn("branches of one source", arguments.pairs, {"1": run(1), "100": run(100)})


def start(arguments, conveyor):
    folder = data(1)  # a single row
    run = lambda: conveyor.run("W1", folder, "start")
    return in_turn("start, one row, commit, end", max(arguments.pairs, 10), {"run": run}, key="wall")


def recovery(arguments, conveyor):
    """`kill -9` in the middle of W1, a new process at once: until it has read its first row, by its own metrics."""
    folder, out = data(arguments.bytes), fresh("recovery")
    path = conveyor.manifest("W1", folder, out, interval="200ms")
    seconds = []
    for turn in range(max(arguments.pairs, 10)):
        for left in ("rows", "dead", "data"):
            shutil.rmtree(out / left, ignore_errors=True)
        address = ("127.0.0.1", free_port())
        command = [conveyor.binary, "run", "-q", "-f", path, "--data-dir", out / "data", "--metrics", "%s:%d" % address]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
            while metric(address, "conveyor_epochs_committed_total") < 1:
                if first.poll() is not None:
                    raise SystemExit("the job had ended before its first epoch: give it more --bytes")
                time.sleep(0.005)
            first.kill()
        began = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as second:
            while metric(address, "conveyor_rows_in_total", 'kind="source"') < 1:
                if second.poll() is not None:
                    raise SystemExit("there was nothing left to read: give it more --bytes")
                time.sleep(0.001)
            seconds.append({"ms": (time.monotonic() - began) * 1000})
            second.kill()
        say(f"recovery: {seconds[-1]['ms']:.0f} ms")
    return table(["kill -9 to the first new row read", "ms"], [["W1, restarted at once", span(seconds, "ms", 0)]])


def main():
    extras = {"recovery": recovery, "epochs": epochs, "dlq": dlq, "cores": cores, "branches": branches, "start": start}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--pairs", type=int, default=5, help="runs of each engine that count")
    parser.add_argument("--only", choices=[f"{w}-{f}" for w, f in WORKS])
    parser.add_argument("--engines", type=lambda t: t.split(","), default=ALL, help="comma-separated: " + ",".join(ALL))
    for name in extras:
        parser.add_argument(f"--{name}", action="store_true", help=f"measures {name} instead of comparing engines")
    arguments = parser.parse_args()
    if set(arguments.engines) - set(ALL):
        parser.error(f"unknown engine; known: {', '.join(ALL)}")
    wanted = [extra for name, extra in extras.items() if getattr(arguments, name)]
    conveyor = Conveyor() if wanted or "conveyor" in arguments.engines else None
    print(machine() + "\n")
    for part in wanted or [compare]:
        print(part(arguments, conveyor) + "\n", flush=True)


if __name__ == "__main__":
    main()
