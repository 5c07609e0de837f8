#!/usr/bin/env python3
"""A given connection is what accept would have returned: addresses and flags, whatever way the
server waits."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *

PORT = 8084
QUEUED = 24


def expected(client, dual_stack):
    """The client's end as server.c prints it: [address]:port/length"""
    host, port = client.name[:2]
    if dual_stack and ":" not in host:
        return f"[::ffff:{host}]:{port}/28"
    return f"[{host}]:{port}/{28 if ':' in host else 16}"


def given(mode, *words, address="127.0.0.1", hosts=("127.0.0.1",), copies=2):
    """What waited at a killed copy is given to the other, and looks as an accepted one does."""
    launcher = run(copies, helper("chaos/server"), address, PORT, mode, *words)
    pids = {s: m["pid"] for s, m in until_live(copies, PORT).items()}
    turn = [0]

    def connect():
        turn[0] += 1
        return Client(PORT, hosts[turn[0] % len(hosts)])

    clients = wait_in_queue(0, QUEUED, connect, PORT)
    ends = {c.name[1]: expected(c, address == "::" and "v6only" not in words) for c in clients}
    launcher.signal(signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    said = answers(clients)
    found = group(PORT)
    counted = sum(s["given"] for s in found["slots"])
    check(counted == QUEUED, f"{counted} of {QUEUED} were given", found)
    check(found["lost"] == 0, found)
    flags = "1" if "accept=flags" in words else "0"
    for w in said:
        check(w[1] != "0" and int(w[2]) in pids.values(), w)
        end = ends[int(w[0])]
        if "accept=null" in words:
            check(w[3] == "0", w)
        elif "accept=short" in words:
            check(w[3] == end.rpartition("/")[2], w, "wanted the whole length of", end)
        else:
            check(w[3] == end, "accept said", w[3], "not", end)
        check(w[4] == end, "getpeername said", w[4], "not", end)
        check(w[5] == flags and w[6] == flags, "flags", w[5:], "wanted", flags)
    launcher.signal(signal.SIGCONT)
    until_live(copies, PORT)
    stop(launcher, PORT)


MODES = ("block", "poll", "select", "level", "edge", "exclusive", "oneshot")


@test(60)
def every_way_to_wait():
    for mode in MODES:
        given(mode)
        print(mode, flush=True)


@test(60)
def every_way_to_wait_with_accept4_flags():
    for mode in MODES:
        given(mode, "accept=flags")
        print(mode, flush=True)


@test(60)
def no_address_and_a_short_one():
    for mode in ("block", "edge"):
        given(mode, "accept=null")
        given(mode, "accept=short")


@test(60)
def ipv6_and_mapped_addresses():
    given("block", address="::1", hosts=("::1",))
    given("edge", "v6only", address="::", hosts=("::1",))
    given("level", address="::", hosts=("127.0.0.1", "::1"))
    given("block", address="::", hosts=("127.0.0.1", "::1"))
    given("edge", address="0.0.0.0", hosts=("127.0.0.1", "127.0.0.3"))


@test(60)
def several_threads():
    for words in (("block", "threads=4"), ("exclusive", "threads=4"), ("oneshot", "threads=4")):
        given(*words)


@test(60)
def a_listener_with_defer_accept():
    given("block", "defer")
    given("edge", "defer")


@test(60)
def a_listener_bound_to_a_device():
    given("block", "device=lo")
    given("level", "device=lo", address="::", hosts=("::1", "127.0.0.1"))


main()
