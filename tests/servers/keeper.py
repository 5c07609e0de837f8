#!/usr/bin/env python3
"""The keeper as a process: one per user and network namespace."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import COMMAND, Process, check, main, test, until

AT_ONCE = 12
ROUNDS = 25


def names():
    with open("/proc/net/unix") as file:
        return re.findall(rf"@(sockshard/{os.getuid()}/\d)$", file.read(), re.M)


@test(60)
def keepers_started_at_the_same_moment_are_one():
    for _ in range(ROUNDS):
        keepers = [Process(COMMAND, "keeper", "--foreground") for _ in range(AT_ONCE)]
        left = until(
            5,  # an idle one ends by itself after 10
            "one keeper",
            lambda: len(lives := [k for k in keepers if k.popen.poll() is None]) <= 1 and lives,
            0.01,
        )
        check(set(names()) == {f"sockshard/{os.getuid()}/0"}, names())
        check(all(k.popen.poll() == 0 for k in keepers if k not in left), "the others' status")
        left[0].end()
        check(not names(), names())


main()
