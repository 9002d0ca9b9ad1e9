"""What a cluster costs against `run`, and how long it takes to go on after a death. One command each:

    python3 benches/cluster/cluster.py             W1 in a cluster of one sidecar and of two, against `run`
    python3 benches/cluster/cluster.py --deaths    kill -9 of the leader and of a sidecar: time to the next commit
    python3 benches/cluster/cluster.py --scale     1,000 pipelines on 200 simulated sidecars: what routers take

Routers and sidecars are processes of the release build on loopback with TLS (with `--scale` without). CPU seconds are those
of all of them. Prints tables for docs/performance.md.
"""

import argparse
import pathlib
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "compare"))
from harness import build, data, fresh, machine, peers, ratio, say, span, table  # noqa: E402
from run import Conveyor, fingerprint  # noqa: E402
from local import Cluster, Routers, cpu_of, memory_of, wait  # noqa: E402

ENDLESS = """apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: endless}
spec:
  mode: streaming
  placement: {spread: true}
  checkpoint: {interval: 100ms}
  sources:
    - name: numbers
      generator: {rowsPerSecond: 10000}
  steps:
    - filter: id % 2 = 0
  sinks:
    - name: out
      file: {path: '{output}', format: ndjson}
"""


def in_cluster(conveyor, sidecars, spread):
    """W1 as a job of a cluster that is up before and after; the cluster's start is not counted."""
    def run(folder):
        out = fresh("conveyor")
        path = conveyor.manifest("W1", folder, out)
        text = path.read_text().replace("spec:\n", "spec:\n  placement: {spread: %s}\n" % str(spread).lower(), 1)
        path.write_text(text)
        with Cluster(conveyor.binary, sidecars) as cluster:
            cluster.forget_peaks()
            before, began = cluster.cpu(), time.monotonic()
            cluster.ctl("apply", "-f", path)
            wait("the job's end", lambda: cluster.status("w1").get("phase") == "finished")
            wall = time.monotonic() - began
            after, peaks = cluster.cpu(), cluster.peaks()
            if cluster.status("w1").get("phase") != "finished":
                raise SystemExit("the job has not finished")
        return {"cpu": sum(after.values()) - sum(before.values()), "wall": wall,
                "rss": max(peak for name, peak in peaks.items() if name.startswith("sidecar"))}
    return run


def work(arguments):
    conveyor, python, folder = Conveyor(), peers(), data(arguments.bytes)
    variants = {
        "`run`": lambda folder: conveyor.run("W1", folder, "conveyor"),
        "one sidecar": in_cluster(conveyor, 1, False),
        "two sidecars, as placed by default": in_cluster(conveyor, 2, False),
        "two sidecars, stages spread over both": in_cluster(conveyor, 2, True),
    }
    samples, prints = {name: [] for name in variants}, {}
    for turn in range(arguments.pairs + 1):
        for name, run in variants.items():
            sample = run(folder)
            say(f"{name}: {sample['cpu']:.2f} CPU s, {sample['wall']:.2f} s, {sample['rss']:.0f} MiB")
            if turn == 0:  # warms the page cache, and is what the outputs are compared from
                prints[name] = fingerprint("conveyor", "W1", "ndjson", python)
            else:
                samples[name].append(sample)
    if len(set(prints.values())) != 1:
        raise SystemExit(f"the outputs differ (rows, hash): {prints}")
    base = samples["`run`"]
    rows = [[name, span(s, "cpu"), f"{ratio(s, base, 'cpu'):.2f}", span(s, "wall"), span(s, "rss", 0)]
            for name, s in samples.items()]
    head = ["W1 to NDJSON", "CPU s", "CPU against `run`", "wall s", "peak MiB of a sidecar"]
    return f"{arguments.bytes:,} bytes, {arguments.pairs} runs each in turn\n\n" + table(head, rows)


def death(binary, victim):
    """Seconds from `kill -9` of one process to the next commit that another router tells of."""
    out = fresh("deaths")
    manifest = out / "endless.yaml"
    manifest.write_text(ENDLESS.replace("{output}", str(out / "rows")))
    with Cluster(binary, 4) as cluster:
        cluster.ctl("apply", "-f", manifest)
        epoch = lambda: cluster.status("endless", asked).get("epoch") or 0
        leader = wait("a leader", lambda: (cluster.get("/v1/cluster") or {}).get("leader"))
        asked = leader % 3 + 1
        wait("epochs", lambda: epoch() >= 5)
        name = f"router-{leader}" if victim == "leader" else busy(cluster)
        before, began = epoch(), time.monotonic()
        cluster.kill(name)
        # An epoch that was on its way may still be told of.
        wait("the next commit", lambda: epoch() > before + 1, every=0.005)
        return time.monotonic() - began


def busy(cluster):
    """A sidecar that runs a part of the pipeline."""
    for name in sorted(cluster.pids):
        if "runs a part of a pipeline" in (cluster.base / f"{name}.log").read_text():
            return name
    raise SystemExit("no sidecar runs a part of the pipeline")


def deaths(arguments):
    binary, rows = build("conveyor-cli", "conveyorctl"), []
    for victim in ("leader", "sidecar"):
        samples = []
        for _ in range(max(arguments.pairs, 5)):
            samples.append({"s": death(binary, victim)})
            say(f"{victim} killed: {samples[-1]['s']:.2f} s")
        rows.append([f"{victim} killed", span(samples, "s")])
    return "epochs of 100 ms, four sidecars\n\n" + table(["kill -9 to the next commit", "s"], rows)


MANY = """apiVersion: etl.router/v1
kind: Pipeline
metadata: {name: %s}
spec:
  mode: streaming
  sources:
    - name: numbers
      generator: {rowsPerSecond: 1}
  steps:
    - filter: id %% 2 = 0
  sinks:
    - name: out
      blackhole: {}
"""


def scale(arguments):
    """Pipelines on sidecars that acknowledge at once: what is left is the routers' own work."""
    binary, fakes = build("conveyor-cli", "conveyorctl"), build("conveyor-benches", "fake-sidecars")
    with Routers(binary, fresh("scale")) as routers:
        command = [fakes, str(arguments.sidecars), "generator", "blackhole", *routers.grpc]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as pretending:
            rows = loaded(routers, arguments)
            pretending.stdin.close()
    return f"{arguments.pipelines:,} pipelines, {arguments.sidecars} sidecars, epochs of 10 s\n\n" + rows


def loaded(routers, arguments):
    leader = wait("a leader", lambda: (routers.request("/v1/cluster") or {}).get("leader"))
    listed = lambda kind: (routers.request(f"/v1/{kind}?page_size=1000", router=leader) or {}).get("items", [])
    wait("all sidecars", lambda: sum(s["attached"] for s in listed("sidecars")) == arguments.sidecars)
    idle = {n: memory_of(p.pid, "VmRSS") for n, p in routers.processes.items()}
    puts, began = [], time.monotonic()
    for number in range(arguments.pipelines):
        name, at = f"p{number}", time.monotonic()
        routers.request(f"/v1/pipelines/default/{name}", {"manifest": MANY % name}, leader)
        puts.append(time.monotonic() - at)
    put = time.monotonic() - began
    running = lambda: len([p for p in listed("pipelines") if p.get("epoch")]) == arguments.pipelines
    wait("the first commit of all pipelines", running, every=0.2)
    started = time.monotonic() - began
    say(f"all have committed after {started:.1f} s")
    before = {n: cpu_of(p.pid) for n, p in routers.processes.items()}
    time.sleep(arguments.seconds)
    puts.sort()
    rows = []
    for number, process in routers.processes.items():
        share = (cpu_of(process.pid) - before[number]) / arguments.seconds
        role = "leader" if number == leader else "follower"
        rows.append([role, f"{share:.0%}", f"{memory_of(process.pid, 'VmRSS'):.0f} ({idle[number]:.0f})"])
    head = ["router", "share of one core", "resident MiB (before the first pipeline)"]
    return table(head, sorted(rows, reverse=True)) + (
        f"\n\napplied one after the other in {put:.1f} s: {puts[len(puts) // 2] * 1000:.1f} ms each (median), "
        f"{puts[len(puts) * 99 // 100] * 1000:.1f} ms (p99); all had committed {started:.1f} s after the first was applied")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--pairs", type=int, default=5, help="runs that count")
    parser.add_argument("--deaths", action="store_true")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--pipelines", type=int, default=1000, help="of --scale")
    parser.add_argument("--sidecars", type=int, default=200, help="of --scale")
    parser.add_argument("--seconds", type=int, default=60, help="how long --scale measures")
    arguments = parser.parse_args()
    part = deaths if arguments.deaths else scale if arguments.scale else work
    print(machine() + "\n")
    print(part(arguments) + "\n", flush=True)


if __name__ == "__main__":
    main()
