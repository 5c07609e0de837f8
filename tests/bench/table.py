"""What the benches share: programs with libraries preloaded, stamps, and the table."""

import mmap
import os
import statistics
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import BUILD, COMMAND, LIBRARY, call, check, freeze, helper, need, status, until

BENCH = os.path.join(BUILD, "tests", "bench")
TIMES = 10 if "--long" in sys.argv else 1
CPU = max(os.sched_getaffinity(0))

started = []


def start(*argv, preload=(), pin=False, stderr=None, **env):
    """A program with libraries preloaded, its stdin and stdout ours."""
    environment = {**os.environ, **env}
    if preload:
        environment["LD_PRELOAD"] = ":".join(preload)
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        text=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, {CPU})) if pin else None,
    )
    started.append(process)
    return process


def end(*processes):
    """A keeper ends by TERM: of vault and worker, one that is killed is made anew by the other."""
    for process in processes:
        if "keeper" in process.args:
            process.terminate()
        else:
            process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        started.remove(process)


def start_keeper(**more):
    keeper = start(COMMAND, "keeper", "--foreground", "--idle", 3600, **more)
    until(10, "a keeper", lambda: status()["keeper"])
    check(status()["keeper"].get("vault") == keeper.pid, "another keeper runs:", status())
    return keeper


def ready(process):
    check(process.stdout.readline() == "ready\n", process.args, "is not ready")
    return process


# --- the table

UNITS = {"ns": 1, "us": 1e3, "ms": 1e6}


def row(what, native, ours, difference, ratio, spread, target=""):
    print(f"{what:44}{native:>11}{ours:>13}{difference:>12}{ratio:>8}{spread:>21}  {target}", flush=True)


def quartiles(values):
    return statistics.quantiles(values, n=4)


def compare(what, native, ours, unit, target=""):
    """Medians; the spread is the middle half of the differences of neighbours in time."""
    by = UNITS[unit]
    a, b = statistics.median(native) / by, statistics.median(ours) / by
    low, _, high = quartiles([y - x for x, y in zip(native, ours)])
    row(
        what,
        f"{a:.1f} {unit}",
        f"{b:.1f} {unit}",
        f"{b - a:+.1f} {unit}",
        f"{b / a:.2f}",
        f"{low / by:+.1f} .. {high / by:+.1f}",
        target,
    )


# --- what programs write down


class Log:
    """A file that a program writes: the number of entries, then entries, of 64-bit words."""

    MAX = 65536

    def __init__(self, words):
        self.entry = struct.Struct("Q" * words)
        self.file = tempfile.NamedTemporaryFile()
        self.file.truncate(8 + self.MAX * self.entry.size)
        self.map = mmap.mmap(self.file.fileno(), 0)
        self.name = self.file.name

    def __len__(self):
        return struct.unpack_from("Q", self.map)[0]

    def entries(self, since=0):
        n = len(self)
        check(n < self.MAX, "the log is full")
        return [
            self.entry.unpack_from(self.map, 8 + self.entry.size * i) for i in range(since, n)
        ]

    def clear(self):
        struct.pack_into("Q", self.map, 0, 0)
