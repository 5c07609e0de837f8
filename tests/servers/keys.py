#!/usr/bin/env python3
"""The keys cpu and random, with real servers."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from programs import *

PORT = 8080


def ident():
    return [helper("support/ident_server"), "tcp", "127.0.0.1", PORT]


@test(60)
def with_key_cpu_a_pinned_copy_serves_its_cpu():
    allowed = sorted(os.sched_getaffinity(0))
    check(len(allowed) >= 2, "needs two processors")
    launcher = run(2, *ident(), options=["--pin", "-p", f"{PORT},key=cpu"])
    until_live(2, PORT)
    check(group(PORT)["key"] == "cpu" and group(PORT)["steered"], status())
    for cpu in allowed:
        os.sched_setaffinity(0, {cpu})
        slots = {tcp(PORT, b"?").split()[0] for _ in range(200)}
        check(slots == {str(cpu % 2).encode()}, f"CPU {cpu}:", slots)
    os.sched_setaffinity(0, set(allowed))
    stop(launcher, PORT)


@test(60)
def with_key_random_one_client_meets_all():
    launcher = run(4, *ident(), options=["-p", f"{PORT},key=random"])
    until_live(4, PORT)
    got = [tcp(PORT, b"?", source=20000).split()[0] for _ in range(400)]
    counts = [got.count(str(slot).encode()) for slot in range(4)]
    print("one source port, 400 connections:", counts)
    check(min(counts) > 50, counts)
    stop(launcher, PORT)


main()
