#!/usr/bin/env python3
"""Nobody else moves: a flow stays at its shard while others die, and the keeper with them."""

import errno
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *

PORT = 8089
COPIES = 4
MORTAL = (0, 1)  # slots
SOURCES = range(20000, 20400)
THREADS = 8
EVERY = 0.2


def home(source):
    """The slot that answers a client with this port of its own; None: the port is in use."""
    try:
        client = Client(PORT, source=("127.0.0.1", source))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
            return None
        raise
    return int(client.answer()[1])


class Flows:
    """Clients that ask again and again from the same ports, each port from one thread."""

    def __init__(self, homes):
        self.homes, self.total, self.moved, self.failed = homes, 0, [], []
        self.over = threading.Event()
        sources = list(homes)
        self.threads = [threading.Thread(target=self.work, args=(sources[n::THREADS],), daemon=True)
                        for n in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def work(self, sources):
        while not self.over.is_set():
            for source in sources:
                try:
                    slot = home(source)
                except (Failure, OSError) as error:
                    self.failed.append((source, str(error)))
                    continue
                if slot is None:
                    continue
                self.total += 1
                if slot != self.homes[source]:
                    self.moved.append((source, self.homes[source], slot))

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


@twice(pick(180, 60))
def flows_of_survivors():
    """Two of four slots die in turn; clients of the other two are always answered by their own."""
    launcher = run(COPIES, helper("chaos/server"), "127.0.0.1", PORT, "level")
    first = {s: m["pid"] for s, m in until_live(COPIES, PORT).items()}
    homes = {source: home(source) for source in SOURCES}
    steady = {source: slot for source, slot in homes.items() if slot not in (None, *MORTAL)}
    flows, kills, pid, end = Flows(steady), 0, 0, time.monotonic() + pick(60, 8)
    while time.monotonic() < end:
        time.sleep(EVERY)
        found = live_pids(PORT).get(MORTAL[kills % 2])
        if found:
            pid = found
            os.kill(pid, signal.SIGKILL)
            kills += 1
    flows.end()
    until(20, "the last killed one's successor",
          lambda: live_pids(PORT).get(MORTAL[(kills - 1) % 2], pid) != pid)
    now = {s["slot"]: s["pid"] for s in whole(PORT, COPIES)["slots"] if s["state"] == "live"}
    print(f"{flows.total} connections of {len(steady)} flows, {kills} kills, "
          f"{len(flows.failed)} failed, {len(flows.moved)} moved")
    check(kills and steady, "nobody was killed, or no flow was a survivor's")
    check(not flows.failed, flows.failed[:5])
    check(not flows.moved, flows.moved[:5])
    check(all(now[s] == pid for s, pid in first.items() if s not in MORTAL), first, now)
    back = {source: home(source) for source in homes}
    away = [s for s in homes if None not in (homes[s], back[s]) and homes[s] != back[s]]
    check(not away, f"{len(away)} flows are not back at their shard: {away[:5]}")
    figure("flows of two that live while two die", flows.total, kills, 0,
           note=f"0 of {len(steady)} flows moved; all {len(homes)} at home again")
    stop(launcher, PORT)


main()
