#!/usr/bin/env python3
"""A server that dies only between connections loses none: no failure of any kind."""

import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *

PORT = 8087
COPIES = 4
TRIES = 20  # until the shards are asked for again


def kill_idle(pids):
    """kill -9 one that is stopped with no connection accepted; True when it came to that."""
    pid = random.choice(pids)
    freeze_all(pid)
    try:
        idle = not accepted_by(pid, PORT, looks=1) and not accepted_by(pid, PORT)
    except OSError:  # it had just been killed
        return False
    os.kill(pid, signal.SIGKILL if idle else signal.SIGCONT)
    return idle


def killed_between(mode, *words, total):
    launcher = run(COPIES, helper("chaos/server"), "127.0.0.1", PORT, mode, *words)
    until_live(COPIES, PORT)
    load = Load(PORT, total=total, clients=64)
    kills = tries = 0
    while not load.over():
        now = list(live_pids(PORT).values())
        for _ in range(TRIES):
            tries += 1
            if load.over() or (now and kill_idle(now)):
                break
            time.sleep(0.005)
        else:
            continue
        kills += not load.over()
        time.sleep(0.1)
    result = load.result()
    print(f"{mode}: {result['total']} connections, {kills} kills of {tries} tries, failures "
          f"{failed(result)}, p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms, "
          f"max {result['max_ms']} ms, {result['seconds']} s", flush=True)
    check(kills, "nobody was killed")
    check(not failed(result), failed(result), load.failures()[:5])
    given = sum(s["given"] for s in whole(PORT, COPIES)["slots"])
    figure(f"killed between connections: {mode}", result["total"], kills, 0, note=f"{given} given")
    stop(launcher, PORT)


@twice(pick(900, 60))
def blocking():
    killed_between("block", total=pick(500000, 20000))


if LONG:

    @twice(900)
    def edge_triggered():
        killed_between("edge", total=500000)


main()
