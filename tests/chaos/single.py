#!/usr/bin/env python3
"""What waits where nobody accepts is answered once somebody does; each client by exactly one server."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *

PORT = 8086


def argv(mode="block", *words):
    return [helper("chaos/server"), "127.0.0.1", PORT, mode, *words]


def connect():
    return Client(PORT)


def gone(*slots):
    until(10, f"slots {slots} without a process", lambda: not set(slots) & set(live(PORT)))


def status_lost():
    return group(PORT)["lost"]


def one_shard(mode):
    """100 wait, it is killed, 50 more come while nobody lives, it is started again."""
    launcher = run(1, *argv(mode))
    pid = until_live(1, PORT)[0]["pid"]
    clients = wait_in_queue(0, 100, connect, PORT)
    launcher.signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    gone(0)
    clients += [connect() for _ in range(50)]
    check(not any(c.answered() for c in clients), "somebody answers")
    launcher.signal(signal.SIGCONT)
    words = answers(clients)
    pids = {w[2] for w in words}
    print(f"{mode}: {len(words)} of 150 answered, by {pids}")
    check(str(pid) not in pids and len(pids) == 1, pids)
    check(status_lost() == 0, status())
    stop(launcher, PORT)


for _mode in ("block", "edge", "oneshot"):
    test(60, name=f"one_shard_{_mode}")(lambda mode=_mode: one_shard(mode))


@test(90)
def all_four_killed_with_queues():
    launcher = run(4, *argv("level"))
    pids = {slot: s["pid"] for slot, s in until_live(4, PORT).items()}
    for pid in pids.values():
        freeze_all(pid)
    clients = [connect() for _ in range(400)]
    until(10, "400 in the queues", lambda: sum(queue(s, PORT) for s in pids) == 400)
    launcher.signal(signal.SIGSTOP)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    gone(*pids)
    if os.environ.get("CHAOS_KEEPER") == "killed":
        os.kill(status()["keeper"]["pid"], signal.SIGKILL)
    clients += [connect() for _ in range(40)]
    launcher.signal(signal.SIGCONT)
    words = answers(clients)
    print(f"{len(words)} of 440 answered, by {sorted({w[1] for w in words})}")
    until_live(4, PORT)
    check(status_lost() == 0 and group(PORT)["steered"], status())
    stop(launcher, PORT)


def killed_with_a_gift(when, rounds):
    """A survivor dies with a given connection in its hand. Returns how many clients got no answer."""
    where = folder()
    file = os.path.join(where, "die")
    missing = 0
    launcher = run(4, *argv("level"), env={
        "LD_PRELOAD": helper("chaos/lib_die"),
        "CHAOS_DIE": when, "CHAOS_DIE_FILE": file,
    })
    for turn in range(rounds):
        slot = turn % 4
        pids = {s: m["pid"] for s, m in until_live(4, PORT).items()}
        clients = wait_in_queue(slot, 12, connect, PORT)
        launcher.signal(signal.SIGSTOP)
        write(file, "")
        os.kill(pids[slot], signal.SIGKILL)
        until(10, "a survivor's death", lambda: not os.path.exists(file))
        for client in clients:
            try:
                client.answer()
            except Failure as failure:
                check("reset" in str(failure) or "got b''" in str(failure), failure)
                missing += 1
        launcher.signal(signal.SIGCONT)
        until(20, "new processes", lambda: len(set(live_pids(PORT).values()) - set(pids.values())) >= 2)
    until_live(4, PORT)
    check(status_lost() == 0 and group(PORT)["steered"], status())
    stop(launcher, PORT)
    return missing


@test(pick(300, 60))
def a_survivor_killed_before_it_acknowledges_loses_nothing():
    rounds = pick(40, 4)
    missing = killed_with_a_gift("before", rounds)
    print(f"{rounds} survivors killed before the acknowledgement: {missing} clients without an answer")
    check(missing == 0, missing)


@test(pick(300, 60))
def a_survivor_killed_after_it_acknowledged_loses_only_its_own():
    rounds = pick(40, 4)
    missing = killed_with_a_gift("after", rounds)
    print(f"{rounds} survivors killed after the acknowledgement: {missing} clients without an answer")
    check(missing <= rounds, missing)


main()
