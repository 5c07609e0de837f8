#!/usr/bin/env python3
"""Whatever talks to the keeper: it lives on, forgets and leaks nothing, and shards are served."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *

PORT = 8083


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def at_rest(pid):
    """How many descriptors once nobody asks anything: the fewest of a while."""
    end, fewest = time.monotonic() + 0.3, descriptors(pid)
    while time.monotonic() < end:
        fewest = min(fewest, descriptors(pid))
        time.sleep(0.01)
    return fewest


class Unharmed:
    """Four shards under load while the block runs; after it all is as before."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        self.launcher = run(4, helper("chaos/server"), "127.0.0.1", PORT, "level", "work=5")
        self.pids = {s: m["pid"] for s, m in until_live(4, PORT).items()}
        self.keeper = status()["keeper"]["pid"]
        self.before = at_rest(self.keeper)
        self.load = Load(PORT, seconds=3600, clients=8)
        return self

    def __exit__(self, kind, *_):
        if kind:
            return
        self.load.stop()
        result = self.load.result()
        print("meanwhile:", result)
        check(not failed(result) and result["ok"], failed(result), self.load.failures()[:5])
        # ten thousand that have just ended may take it longer than a question waits
        keeper = until(20, "an answer of the keeper", lambda: status()["keeper"])
        check(keeper["pid"] == self.keeper, "another keeper:", keeper)
        check({s: m["pid"] for s, m in live(PORT).items()} == self.pids, "shards:", status())
        check(group(PORT)["steered"] and group(PORT)["lost"] == 0, status())
        until(20, f"{self.before} descriptors of the keeper, as before",
              lambda: at_rest(self.keeper) == self.before)
        figure(f"bad peers: {self.what}", result["total"], missing=0, note="served meanwhile")
        stop(self.launcher, PORT)


def peer(*words, seconds=600):
    code, out, err = call(helper("chaos/peer"), *words, os.getuid(), seconds=seconds)
    print(*words, ":", out.strip(), err.strip(), flush=True)
    check(code == 0, f"peer {words} ended with {code}")


@test(pick(900, 60))
def fuzzed_messages():
    total = pick(1000000, 50000)
    with Unharmed(f"{total:,} messages of noise"):
        peer("fuzz", total, random.randrange(1 << 30))


@test(60)
def silent_ones_are_closed():
    with Unharmed("500 that say nothing"):
        peer("silent", 500)


@test(60)
def ten_thousand_connects():
    with Unharmed("10,000 connects, then 10,000 at a time"):
        peer("connects", 10000)
        peer("crowd", 10000)


@test(60)
def wrong_kinds_of_descriptor():
    with Unharmed("wrong kinds of descriptor"):
        peer("kinds", 9001)


@test(60)
def another_user():
    with Unharmed("another user"):
        peer("foreign")


@test(60)
def a_token_peer_that_sends_a_descriptor():
    with Unharmed("a token peer with a descriptor"):
        peer("token", 9001)


main()
