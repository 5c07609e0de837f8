#!/usr/bin/env python3
"""A keeper is gone altogether, and shards die or come before their siblings have found the next one:
the order of the kernel's array is found out by probes, and the group is steered again."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from programs import *

PORT = 8090
COPIES = 4
GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"


def python_server():
    return [need("python3"), "-m", "http.server", "-d", folder(), "--bind", "127.0.0.1", PORT]


def copy(argv, slot):
    return preloaded(*argv, env={"SOCKSHARD_SLOT": str(slot)})


def steered_again(argv, question, answer, ending, change):
    """No launcher: nobody but the shards themselves can notice."""
    copies = {}
    for slot in range(COPIES):
        copies[slot] = copy(argv, slot)
        until_live(slot + 1, PORT)
    for _ in range(40):
        check(tcp(PORT, question, ending=ending).startswith(answer), "no answer")
    kill_keeper()
    left = change(copies)
    for _ in range(4000):
        check(tcp(PORT, question, ending=ending).startswith(answer), "no answer")
        entry = group(PORT) if status()["keeper"] else None
        if entry and entry["steered"] and len(live(PORT)) == left:
            break
    check(group(PORT)["steered"] and len(live(PORT)) == left, status())
    before = {s["slot"]: s["accepted"] for s in group(PORT)["slots"]}
    for _ in range(200):
        check(tcp(PORT, question, ending=ending).startswith(answer), "no answer")
    for slot, entry in live(PORT).items():
        check(entry["accepted"] - before[slot] > 0, "nothing for a slot:", status())
    return copies


def first_dies(copies):
    """The last one moves into its place."""
    copies[0].signal(signal.SIGKILL)
    copies[0].wait()  # every thread of it
    return COPIES - 1


def two_die(copies):
    for slot in (0, 2):
        copies[slot].signal(signal.SIGKILL)
        copies[slot].wait()
    return COPIES - 2


@test(60, ALL)
def a_copy_of_redis_dies():
    steered_again(redis(PORT), b"PING\r\n", b"+PONG", b"\r\n", first_dies)


@test(60, ALL)
def two_copies_of_redis_die():
    steered_again(redis(PORT), b"PING\r\n", b"+PONG", b"\r\n", two_die)


@test(60, ALL)
def a_copy_of_a_blocking_server_dies():
    steered_again(python_server(), GET, b"HTTP/1.", b"", first_dies)


@test(60, ALL)
def one_dies_and_one_comes():
    def change(copies):
        first_dies(copies)
        copies[0] = copy(redis(PORT), 0)
        return COPIES

    steered_again(redis(PORT), b"PING\r\n", b"+PONG", b"\r\n", change)


main()
