"""Peak memory of a pipeline whose sink is slower than its source, for inputs of 0.25, 1 and 4 GiB. One command:

    python3 benches/memory/run.py

The peak is the kernel's VmHWM, read while the process runs. The lookup table's part is the peak of the same pipeline over
a single row, so the column "above" is what the flow of rows takes. Prints a table for docs/performance.md.
"""

import argparse
import pathlib
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "compare"))
from harness import ROOT, build, data, fresh, machine, say, table  # noqa: E402

GIB = 1 << 30


def peak_mib(pid):
    """VmHWM of a process in MiB; None once it is gone."""
    try:
        for line in open(f"/proc/{pid}/status"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def run(binary, size, rate):
    """Runs the pipeline over `size` bytes; (peak MiB, seconds)."""
    folder, out = data(size), fresh("memory")
    text = (ROOT / "benches" / "memory" / "pipeline.yaml").read_text()
    values = {"events": folder / "events.ndjson", "users": folder / "users.csv", "output": out, "rate": rate, "least": 100}
    for key, value in values.items():
        text = text.replace("{" + key + "}", str(value))
    (out / "pipeline.yaml").write_text(text)
    began = time.monotonic()
    with open(out / "log", "w") as log:
        command = [binary, "run", "-q", "-f", out / "pipeline.yaml", "--data-dir", out / "data"]
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        peak = 0
        while child.poll() is None:
            peak = max(peak, peak_mib(child.pid) or 0)
            time.sleep(0.02)
    if child.returncode != 0:
        raise SystemExit(f"conveyorctl ended with {child.returncode}:\n{(out / 'log').read_text()}")
    return peak, time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=lambda t: [float(s) for s in t.split(",")], default=[0.25, 1, 4],
                        help="GiB of input, comma-separated")
    parser.add_argument("--rate", default="20MB", help="what the slow sink takes a second")
    arguments = parser.parse_args()
    binary = build("conveyor-cli", "conveyorctl")
    base, _ = run(binary, 1, arguments.rate)
    rows = []
    for size in arguments.sizes:
        peak, seconds = run(binary, int(size * GIB), arguments.rate)
        say(f"{size} GiB: {peak:.0f} MiB, {seconds:.0f} s")
        rows.append([f"{size:g} GiB", f"{peak:.0f}", f"{peak - base:.0f}", f"{seconds:.0f}"])
    print(machine() + "\n")
    print(f"One row with the lookup table: {base:.0f} MiB at its peak. Slow sink: {arguments.rate}/s.\n")
    print(table(["input", "peak MiB", "above MiB", "seconds"], rows))


if __name__ == "__main__":
    main()
