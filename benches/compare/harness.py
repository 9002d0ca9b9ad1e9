"""What the measurements share: environments, data, the built binary, one measured process, tables."""

import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENGINES = ROOT / "benches" / "compare" / "engines"
PEERS = {"duckdb": "duckdb==2.0.0", "polars": "polars==2.1.0", "datafusion": "datafusion==55.0.0"}


def say(text):
    print(text, file=sys.stderr, flush=True)


def target_dir():
    """Cargo's target directory, where environments, data and outputs lie too."""
    metadata = subprocess.run(["cargo", "metadata", "--offline", "--no-deps", "--format-version", "1"], cwd=ROOT,
                              check=True, capture_output=True).stdout
    return pathlib.Path(json.loads(metadata)["target_directory"])


def peers():
    """A Python interpreter that has the peer engines, at pinned versions."""
    venv = target_dir() / "compare" / "venv"
    python, ready = venv / "bin" / "python", venv / "ready.json"
    if not ready.exists() or json.loads(ready.read_text()) != PEERS:
        say("installing the peer engines from the Python registry")
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pyarrow==26.0.1",
                        *PEERS.values()], check=True)
        ready.write_text(json.dumps(PEERS))
    return python


def build(package, binary):
    """Builds the release binaries that are measured, or measure, and returns the path of one.

    All at once: a build of one package alone may choose other features of what both use, and compile it anew.
    """
    out = subprocess.run(["cargo", "build", "--release", "-p", "conveyor-cli", "-p", "conveyor-benches", "--bins",
                          "--message-format", "json-render-diagnostics"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable") \
                and message["target"]["name"] == binary and package in message["package_id"]:
            return pathlib.Path(message["executable"])
    raise SystemExit(f"cargo built no {binary}")


def data(size, bad_every=None, seed=1):
    """A folder with events.ndjson of `size` bytes and users.csv; made once."""
    folder = target_dir() / "compare" / f"data-{size}-{seed}-{bad_every or 'clean'}"
    if not (folder / "ready").exists():
        say(f"making {size:,} bytes of events")
        bad = ["--bad-every", str(bad_every)] if bad_every else []
        subprocess.run([build("conveyor-benches", "gen-events"), folder, "--bytes", str(size), "--seed", str(seed), *bad],
                       check=True, stdout=subprocess.DEVNULL)
        (folder / "ready").touch()
    return folder


def fresh(name):
    """An empty folder for output."""
    folder = target_dir() / "compare" / "out" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def measure(command, cores=None, ok=(0,)):
    """Runs one process to its end: CPU seconds (user and system), wall seconds, peak resident MiB."""
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    began = time.monotonic()
    child = subprocess.Popen([str(c) for c in command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, preexec_fn=pin)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in ok:
        raise SystemExit(f"{command} ended with {child.returncode}:\n{said.decode(errors='replace')}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall, "rss": usage.ru_maxrss / 1024}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def metric(address, name, label=""):
    """Sum of a metric's samples with this label, by asking a running process; 0 while it does not answer."""
    try:
        with urllib.request.urlopen("http://%s:%d/metrics" % address, timeout=1) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and label in line)


def span(samples, key, digits=2):
    """Median, and minimum to maximum in brackets."""
    values = [s[key] for s in samples]
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratio(samples, base, key):
    """Ratio of medians."""
    return statistics.median(s[key] for s in samples) / statistics.median(s[key] for s in base)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def machine():
    """One line on the machine; a figure without it means little."""
    model = "unknown processor"
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
        memory = int(open("/proc/meminfo").readline().split()[1]) / (1 << 20)
    except OSError:
        memory = 0
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}"
