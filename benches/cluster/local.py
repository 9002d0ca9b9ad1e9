"""A cluster of processes on this machine for measurements: deploy/local/cluster, its REST API, what its processes cost."""

import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "compare"))
from harness import ROOT, free_port, target_dir  # noqa: E402

SCRIPT = ROOT / "deploy" / "local" / "cluster"
TICKS = os.sysconf("SC_CLK_TCK")
FIRST_PORT = 17100


class Cluster:
    """Three routers and some sidecars, with TLS; everything is ended and removed at the end of the `with`."""

    def __init__(self, binary, sidecars, settings=None):
        self.binary, self.sidecars = binary, sidecars
        self.base = target_dir() / "compare" / "out" / "cluster"
        self.environment = os.environ | {"CONVEYOR_LOCAL": str(self.base), "CONVEYORCTL": str(binary),
                                         "CONVEYOR_PORT": str(FIRST_PORT), **(settings or {})}

    def __enter__(self):
        shutil.rmtree(self.base, ignore_errors=True)
        self._script("up", "--sidecars", str(self.sidecars))
        lines = (self.base / "pids").read_text().splitlines()
        self.pids = {name: int(pid) for name, pid, _ in (line.split() for line in lines)}
        self.tls = ssl.create_default_context(cafile=self.base / "certs" / "ca.crt")
        self.token = (self.base / "certs" / "admin.token").read_text().strip()
        return self

    def __exit__(self, *_):
        self._script("down")
        shutil.rmtree(self.base, ignore_errors=True)

    def _script(self, *arguments):
        done = subprocess.run([SCRIPT, *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"deploy/local/cluster {arguments[0]}: {done.stderr}")

    def get(self, path, router=None):
        """A document, from this router or from the first that answers; None while none does."""
        for number in [router] if router else [1, 2, 3]:
            url = f"https://127.0.0.1:{FIRST_PORT + 100 + number}{path}"
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}"})
            try:
                with urllib.request.urlopen(request, timeout=2, context=self.tls) as answer:
                    return json.load(answer)
            except OSError:
                continue
        return None

    def status(self, pipeline, router=None):
        return self.get(f"/v1/pipelines/default/{pipeline}/status", router) or {}

    def ctl(self, *arguments):
        files = self.base / "certs"
        endpoints = ",".join(f"https://127.0.0.1:{FIRST_PORT + 100 + n}" for n in (1, 2, 3))
        environment = self.environment | {"CONVEYOR_ENDPOINT": endpoints, "CONVEYOR_CA": str(files / "ca.crt"),
                                          "CONVEYOR_TOKEN_FILE": str(files / "admin.token")}
        done = subprocess.run([self.binary, *map(str, arguments)], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"conveyorctl {arguments[0]}: {done.stderr}")
        return done.stdout

    def cpu(self):
        """CPU seconds, user and system, of each process since its start."""
        return {name: cpu_of(pid) for name, pid in self.pids.items()}

    def peaks(self):
        """Peak resident MiB of each process since the last `forget_peaks`."""
        return {name: peak_of(pid) for name, pid in self.pids.items()}

    def forget_peaks(self):
        for pid in self.pids.values():
            pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")

    def kill(self, name):
        os.kill(self.pids[name], signal.SIGKILL)


def wait(what, holds, patience=120, every=0.01):
    """Waits until `holds` gives something, and returns it."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(every)
    raise SystemExit(f"{what}: not within {patience} s")


def cpu_of(pid):
    """User and system CPU seconds of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid, field):
    """A field of the kernel's account of a process's memory, in MiB."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"process {pid} has no {field}")


def peak_of(pid):
    return memory_of(pid, "VmHWM")


class Routers:
    """Three routers without TLS and without sidecars, in a folder of their own."""

    def __init__(self, binary, folder):
        ports = [free_port() for _ in range(6)]
        self.grpc = [f"127.0.0.1:{port}" for port in ports[:3]]
        self.http = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        self.processes = {}
        for number in (1, 2, 3):
            environment = os.environ | {
                "RAFT_NODE_ID": str(number), "GRPC_PORT": str(ports[number - 1]), "HTTP_PORT": str(ports[number + 2]),
                "RAFT_PEERS": ",".join(f"{n}={address}" for n, address in enumerate(self.grpc, 1)),
                "DATA_DIR": str(folder / f"router-{number}"), "CONVEYOR_STORE": str(folder / "store")}
            log = open(folder / f"router-{number}.log", "w")
            self.processes[number] = subprocess.Popen([binary, "router"], env=environment, stdin=subprocess.DEVNULL,
                                                      stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def request(self, path, body=None, router=1):
        """A document; with a body it is put. None while there is no answer."""
        text = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.http[router - 1] + path, data=text, method="PUT" if text else "GET",
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if body is not None:
                raise SystemExit(f"{path}: {error.code} {error.read().decode()}") from error
            return None
        except OSError:
            return None
