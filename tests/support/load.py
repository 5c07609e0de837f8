"""What the chaos tests share: the load client, killing a process so that *accepted by it* and
*lost* can be told apart exactly, and connections that wait in a queue."""

import json
import os
import random
import re
import select
import signal
import socket
import struct
import threading
import time

from harness import *

LONG = os.environ.get("CHAOS") == "long"  # make chaos; else the short form, part of make check


def pick(long, short):
    return long if LONG else short


# --- whose was a connection


def _decode(text):
    """'0100007F:1F90' of /proc/net/tcp -> (4 or 6, port): the family as a client has it"""
    address, port = text.split(":")
    mapped = len(address) == 32 and address.startswith("0000000000000000FFFF0000")
    return (6 if len(address) == 32 and not mapped else 4), int(port, 16)


def tcp_sockets():
    """inode -> (state, local end, remote end, bytes that wait; of a listener: connections)"""
    found = {}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as file:
            next(file)
            for line in file:
                words = line.split()
                waiting = int(words[4].partition(":")[2], 16)
                found[int(words[9])] = (int(words[3], 16), words[1], words[2], waiting)
    return found


def socket_inodes(pid):
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
        if match:
            inodes.add(int(match[1]))
    return inodes


_LISTEN = 10


def accepted_by(pid, port, looks=3):
    """(family, client's port) of all connections a stopped process has accepted on a port."""
    ends, inodes = {}, socket_inodes(pid)
    for _ in range(looks):  # a table that changes while it is read may leave out a line
        table = tcp_sockets()
        for inode in inodes & set(table):
            state, local, remote, _ = table[inode]
            if state != _LISTEN and _decode(local)[1] == port:
                ends[inode] = _decode(remote)
    return set(ends.values())


def queued_at(pid, port):
    """How many connections wait in a process's own listener on a port."""
    inodes = socket_inodes(pid)
    return sum(waiting for inode, (state, local, _, waiting) in tcp_sockets().items()
               if inode in inodes and state == _LISTEN and _decode(local)[1] == port)


def freeze_all(pid):
    """SIGSTOP, until every thread has taken note."""
    os.kill(pid, signal.SIGSTOP)
    until(5, f"a stopped process {pid}", lambda: _threads(pid) <= set("TZX"), 0.0005)


def _threads(pid):
    states = set()
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            states.add(state(f"{pid}/task/{task}"))
    except OSError:
        pass
    return states or {"X"}


class Death:
    """kill -9, with what the process had accepted read while it was stopped."""

    def __init__(self, pid, port):
        self.pid = pid
        freeze_all(pid)
        self.at = time.monotonic_ns()
        self.own = accepted_by(pid, port)
        self.queued = queued_at(pid, port)
        self.killed = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)


def lost(failures, deaths):
    """The failures that no death explains: the port was none of the dead one's at that time."""
    return [
        f
        for f in failures
        if f["outcome"] != "slow"
        and not any(
            f["begin"] <= d.at <= f["end"] and (f["family"], f["port"]) in d.own for d in deaths
        )
    ]


# --- load


class Load:
    """The load client at work; words as client.c has them."""

    def __init__(self, port, *words, clients=64, total=0, seconds=0, mode="line", question=None,
                 ending=None, timeout_ms=30000, slow_ms=7000, addresses=("127.0.0.1",)):
        self.log = os.path.join(folder(), "failures")
        argv = [helper("chaos/client"), "-p", port, "-c", clients, "-m", mode, "-o", self.log]
        argv += ["-T", timeout_ms, "-s", slow_ms]
        for address in addresses:
            argv += ["-a", address]
        for letter, value in (("-n", total), ("-t", seconds), ("-q", question), ("-e", ending)):
            argv += [letter, value] if value else []
        self.process = Process(*argv, *words)
        # from then on TERM ends it with a result
        until(20, "a load client", lambda: os.path.exists(self.log))

    def over(self):
        return self.process.popen.poll() is not None

    def stop(self):
        self.process.signal(signal.SIGTERM)

    def failures(self):
        """Of now: a list of dicts, outcome "slow" included."""
        found = []
        with open(self.log) as file:
            for line in file:
                words = line.split()
                if len(words) == 6:
                    found.append({
                        "outcome": words[0], "family": int(words[1]), "port": int(words[2]),
                        "begin": int(words[3]), "end": int(words[4]), "bytes": int(words[5]),
                    })
        return found

    def result(self, seconds=600):
        """counts and times, once it is over"""
        check(self.process.wait(seconds) == 0, self.process.output())
        return json.loads(self.process.output().splitlines()[-1])


def failed(result):
    return {k: v for k, v in result.items()
            if k in ("refused", "reset", "cut", "short", "timeout", "wrong", "local") and v}


# --- killing while the load runs


def live_pids(port):
    found = group(port)
    return {s["slot"]: s["pid"] for s in found["slots"] if s["state"] == "live"} if found else {}


class KeeperKiller:
    """kill -9 the keeper's worker every 300 ms, while with it."""

    def __init__(self, pause=0.3):
        self.pause, self.kills = pause, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _work(self):
        while not self._over.wait(self.pause):
            try:
                keeper = status()["keeper"]
                if keeper and keeper["pid"] != keeper.get("vault"):
                    os.kill(keeper["pid"], signal.SIGKILL)
                    self.kills += 1
            except (Failure, ProcessLookupError):
                pass


_killer = None
_rows = {}  # what -> [connections, kills, missing, note]
KEEPER_DEATHS = 10  # at least


def twice(limit=60, name=None):
    """Registers a test, and in the long form the same once more, or as often as it takes, while the
    keeper's worker is killed every 300 ms from beginning to end."""

    def register(function):
        own = name or function.__name__
        test(limit, name=own)(function)
        if LONG:
            test(limit, name=f"{own}_while_the_keeper_dies")(lambda: _while_it_dies(function))
        return function

    return register


def _while_it_dies(function):
    global _killer
    with KeeperKiller() as _killer:
        while _killer.kills < KEEPER_DEATHS:
            function()
    for what, (connections, kills, missing, note) in _rows.items():
        print(f"| {what} | {connections} | {kills} | {_killer.kills} | {missing} | - | {note} |")


def keeper_dies():
    return _killer is not None


def whole(port, copies):
    """Nothing was lost, and all copies are live and steered; returns the group."""

    def found():
        group_now = group(port)
        slots = group_now["slots"] if group_now else []
        busy = [s for s in slots if s["state"] == "live" and s["buckets"] > 0]
        return group_now if len(busy) == copies and group_now["steered"] else None

    now = until(20, f"{copies} live and steered shards", found)
    check(now["lost"] == 0, now)
    return now


def figure(what, connections, kills=0, missing=0, alone="-", note=""):
    """A row of the table that `make chaos` ends with. kills: shards killed or stopped; missing:
    lost connections; alone: lost with the option alone."""
    if keeper_dies():
        before = _rows.get(what, (0, 0, 0))
        _rows[what] = (before[0] + connections, before[1] + kills, before[2] + missing, note)
    else:
        print(f"| {what} | {connections} | {kills} | 0 | {missing} | {alone} | {note} |")


# --- connections that wait


class Client:
    """One connection whose request is sent; the answer is asked for later."""

    def __init__(self, port, host="127.0.0.1", source=None, speak=True):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.settimeout(20)
        if source:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(source)
        self.host = host
        self.socket.connect((host, port))
        self.name = self.socket.getsockname()
        if speak:
            self.speak()

    def speak(self):
        self.socket.sendall(f"{self.name[1]}\n".encode())

    def answered(self, seconds=0):
        return bool(select.select([self.socket], [], [], seconds)[0])

    def answer(self):
        """Words of the one line, proven to be this client's, with nothing behind it."""
        got = b""
        try:
            while True:
                more = self.socket.recv(4096)
                if not more:
                    break
                got += more
        except OSError as error:
            raise Failure(f"client {self.name}: {error!r} after {got!r}")
        finally:
            self.socket.close()
        words = got.decode().split()
        check(got.count(b"\n") == 1 and got.endswith(b"\n") and words[0] == str(self.name[1]),
              f"client {self.name} got {got!r}")
        return words


def answers(clients):
    """All of them, or a Failure that counts: (number of failures, first)"""
    good, bad = [], []
    for client in clients:
        try:
            good.append(client.answer())
        except Failure as failure:
            bad.append(str(failure))
    check(not bad, f"{len(bad)} of {len(clients)} clients failed: {bad[:3]}")
    return good


def queue(slot, port):
    return next(s["queue"] for s in group(port)["slots"] if s["slot"] == slot)


def wait_in_queue(slot, wanted, connect, port):
    """Freeze a shard and connect until `wanted` connections wait there; the others are answered."""
    freeze_all(live_pids(port)[slot])
    waiting, tries = [], 0
    while len(waiting) < wanted:
        check(tries < 100 * wanted + 1000, f"only {len(waiting)} of {tries} connections wait")
        clients = [connect() for _ in range(wanted - len(waiting))]
        tries += len(clients)
        silent = until(
            10,
            f"{len(waiting)} + the silent ones of {len(clients)} in the queue of slot {slot}",
            lambda: _only_silent(clients, queue(slot, port) - len(waiting)),
        )
        for client in clients:
            if client not in silent:
                client.answer()
        waiting += [c for c in silent if c]
    return waiting


def _only_silent(clients, wanted):
    silent = [c for c in clients if not c.answered()]
    return (silent or [None]) if len(silent) == wanted else None
