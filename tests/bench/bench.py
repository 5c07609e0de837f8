#!/usr/bin/env python3
"""What sockshard costs, beside the same without it, in one run with the rivals taking turns.

    bench.py [--long]

No figure is a test: machines differ, and this one's neighbours too. Prints one table; the target is
what we want on an idle machine. Run by `make bench-short` in a network namespace of its own."""

import os
import re
import select
import tempfile
import time

import gives
import uneven
from table import *

CALLS = os.path.join(BENCH, "calls")
EMPTY = os.path.join(BENCH, "lib_empty")
ATTACH = os.path.join(BENCH, "lib_attach")
PORT, NATIVE_PORT, SHARDS_PORT = 8100, 8200, 8300
SHARDS = 64


# --- single calls

# what is measured, words for it, calls a round, rounds, unit, target
CALL_KINDS = [
    ("accept-empty", "accept4, the hook alone", 200000, 60, "ns", "<= 5 ns"),
    ("accept-nothing", "accept4 of an empty queue (EAGAIN)", 10000, 200, "ns"),
    ("accept-connections", "accept4 of a connection", 100, 400, "ns"),
    ("close-empty", "close of an unrelated fd, the hook alone", 200000, 60, "ns", "<= 2 ns"),
    ("close-nothing", "close(-1)", 20000, 200, "ns"),
    ("close-files", "close of a duplicate of /dev/null", 5000, 200, "ns"),
    ("listen", "listen: JOIN", 1, 200, "us", "<= 300 us"),
    ("bind", "bind: connect, HELLO, RESERVE", 1, 200, "us"),
    ("close-listener", "close of the listener: LEAVE", 1, 200, "us"),
]


def ask(process, what, n):
    process.stdin.write(f"{what} {n}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    check(answer, process.args, "has ended")
    return float(answer)


def take_turns(native, ours, kind, words, n, rounds, unit, target=""):
    times = ([], [])
    for process in (native, ours):
        ask(process, kind, n)
    for i in range(rounds * TIMES):
        for who in (0, 1) if i % 2 else (1, 0):
            times[who].append(ask((native, ours)[who], kind, n))
    compare(words, *times, unit, target)


def single_calls():
    env = {"SOCKSHARD_POLICY": f"{PORT}-{PORT + 1}=balance,hold=0"}
    keeper = start_keeper()
    for below in ([EMPTY], []):
        native = ready(start(CALLS, NATIVE_PORT, preload=below, pin=True))
        ours = ready(start(CALLS, PORT, preload=[LIBRARY, *below], pin=True, **env))
        slots = [s["pid"] for g in status()["groups"] for s in g["slots"]]
        check(slots == [ours.pid], "not one live shard:", status())
        for kind, *more in CALL_KINDS:
            if kind.endswith("-empty") == (EMPTY in below):
                take_turns(native, ours, kind, *more)
        end(native, ours)
        until(10, "the end of the shard", lambda: not status()["groups"])
    end(keeper)


# --- instructions


def library_instructions(path):
    """Instructions executed in our library itself, out of a file of callgrind."""
    names, ours, skip, total = {}, False, False, 0
    for line in open(path):
        found = re.match(r"ob=\((\d+)\)(?: (.*))?", line)
        if found:
            if found[2]:
                names[found[1]] = found[2]
            ours = names[found[1]].endswith("/libsockshard.so")
        elif re.match(r"cob=\((\d+)\) (.*)", line):
            found = re.match(r"cob=\((\d+)\) (.*)", line)
            names[found[1]] = found[2].strip()
        elif line.startswith("calls="):
            skip = True  # the next line is what the called function cost
        elif re.match(r"[+*\-\d]", line):
            if not skip and ours:
                total += int(line.split()[1])
            skip = False
    return total


def count_instructions(kind, n):
    preload = [LIBRARY, EMPTY] if kind.endswith("-empty") else [LIBRARY]
    with tempfile.NamedTemporaryFile() as out, tempfile.TemporaryFile() as log:
        valgrind = [need("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out.name}"]
        process = start(
            *valgrind, CALLS, PORT, kind, n, preload=preload, stderr=log, SOCKSHARD_POLICY=str(PORT)
        )
        if process.wait(120) != 0:
            log.seek(0)
            check(False, "callgrind ended with", process.returncode, log.read().decode())
        end(process)
        return library_instructions(out.name)


def instructions():
    """Returns those of one accept and one close."""
    keeper = start_keeper()
    counted = {}
    for kind, words in (
        ("accept-empty", "accept4 of a connection"),
        ("accept-nothing", "accept4 of an empty queue"),
        ("close-empty", "close of an unrelated fd"),
    ):
        few, many = count_instructions(kind, 1000), count_instructions(kind, 11000)
        counted[kind] = (many - few) / 10000
        row(f"instructions: {words}", "0", f"{counted[kind]:.1f}", "", "", "")
    end(keeper)
    return counted["accept-empty"] + counted["close-empty"]


# --- from a death to the new program


def start_shard(slot):
    return start(
        CALLS,
        SHARDS_PORT,
        "shard",
        preload=[LIBRARY],
        SOCKSHARD_SLOT=str(slot),
        SOCKSHARD_POLICY=f"{SHARDS_PORT}=balance,hold=60",
    )


def slot_buckets(slot):
    entries = status()["groups"][0]["slots"]
    return [s["buckets"] for s in entries if s["slot"] == slot]


def kill_shard(log, shard, slot):
    """ns from kill(2) to the end of the setsockopt(2) that attached another program; how much of it
    the keeper was awake; the program's length"""
    n = len(log)
    before = log.entries(n - 1)[0][2]
    at = time.monotonic_ns()
    os.kill(shard.pid, 9)
    end(shard)
    attached, woke, _, length = until(
        10,
        "a new program",
        lambda: [e for e in log.entries(n) if e[2] != before],
        pause=0.002,
    )[0]
    check(slot_buckets(slot) == [0], "buckets of a dead slot:", slot_buckets(slot))
    return attached - at, attached - woke, length


def kill_native():
    """ns from kill(2) of a listening process to the end of a poll(2) that waits for it"""
    process = ready(start(CALLS, NATIVE_PORT, "shard"))
    pidfd = os.pidfd_open(process.pid)
    at = time.monotonic_ns()
    os.kill(process.pid, 9)
    select.select([pidfd], [], [])
    taken = time.monotonic_ns() - at
    os.close(pidfd)
    end(process)
    return taken


def join_many():
    native = ready(start(CALLS, NATIVE_PORT, pin=True))
    policy = f"{SHARDS_PORT - 1}-{SHARDS_PORT}"
    ours = ready(start(CALLS, SHARDS_PORT - 1, preload=[LIBRARY], pin=True, SOCKSHARD_POLICY=policy))
    take_turns(native, ours, "listen", f"listen: JOIN as one more of {SHARDS + 1}", 1, 100, "us")
    end(native, ours)


def deaths():
    log = Log(4)  # at_ns, woke_ns, hash, instructions
    keeper = start_keeper(preload=[ATTACH], BENCH_ATTACH=log.name)
    shards = {}
    for slot in range(SHARDS):
        shards[slot] = ready(start_shard(slot))
    before = log.entries(len(log) - 1)[0][3]
    join_many()
    until(20, "the shards alone", lambda: len(status()["groups"]) == 1)
    native, ours, awake, lengths = [], [], [], []
    for i in range(30 * TIMES):
        slot = i * 37 % SHARDS
        native.append(kill_native())
        taken, in_keeper, length = kill_shard(log, shards[slot], slot)
        ours.append(taken)
        awake.append(in_keeper)
        lengths.append(length)
        shards[slot] = ready(start_shard(slot))
    compare(f"kill -9 of 1 of {SHARDS} until its flows move", native, ours, "us", "<= 1000 us")
    low, middle, high = (f"{value / 1000:.1f}" for value in quartiles(awake))
    row("  of that, in the keeper", "", f"{middle} us", "", "", f"{low} .. {high}")
    print(
        f"  native: until poll(2) of a pidfd returns. Programs: {before} instructions before,"
        f" {min(lengths)} to {max(lengths)} after a death."
    )
    end(*shards.values(), keeper)


def main():
    need("valgrind")
    try:
        print(
            f"Linux {os.uname().release}, {len(os.sched_getaffinity(0))} CPUs. Medians; spread:"
            " middle half of the paired differences."
        )
        row("what", "native", "sockshard", "difference", "ratio", "spread", "target")
        single_calls()
        counted = instructions()
        deaths()
        gives.measure(counted)
        uneven.measure()
    finally:
        end(*started)


main()
