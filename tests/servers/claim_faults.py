#!/usr/bin/env python3
"""The keeper's worker may die at any point of a claim: each process that asked has one socket, no two
have the same, nothing that was connected meanwhile is lost, nothing leaks. The claims are made here,
in the words of shim/keeper/wire.h, by connections of this process."""

import array
import os
import select
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

FAULTY = os.path.join(BUILD, "fault", "sockshard")
AT_ONCE = 8
OWN = 8  # descriptors of an idle keeper, as in faults.py
WORKERS = 3
HELLO, RESERVE, JOIN, CLAIM, JOINED = 1, 2, 3, 6, 18
SHARD, OWN_ONE = 1, 1
SO_COOKIE = 57
MAGIC = 0x31534B53
BEFORE = ("accept_", "receive_", "request_", "reply_", "commit_", "hello_", "attach_", "join_",
          "release_", "connection_")  # points that other requests pass too


class Peer:
    """A connection to the keeper."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect("\0" + name)
        self.seq = 0
        self.ask(HELLO, struct.pack("=IIII16s128sII", 1, 1, SHARD, os.getpid(), b"", b"", 0, 0))

    def ask(self, kind, body, *fds):
        self.seq += 1
        head = struct.pack("=IHHIi", MAGIC, kind, 16 + len(body), self.seq, 0)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([head + body], rights)
        while True:  # an answer may come twice
            answer, received, _, _ = socket.recv_fds(self.socket, 1024, 2)
            check(len(answer) >= 16, "the keeper has closed the connection")
            _, _, _, seq, result = struct.unpack_from("=IHHIi", answer)
            if seq == self.seq:
                check(result == 0, f"message {kind}: {result}")
                return answer[16:], received
            for fd in received:
                os.close(fd)


def address(port):
    return struct.pack("=BBBBHHI16s", socket.IPPROTO_TCP, socket.AF_INET, 0, 0, port, 0, 0,
                       socket.inet_aton("127.0.0.1"))


def joined(body):
    slot, _, _, _, _, token, made, why = struct.unpack_from("=5I16sIi", body)
    return slot, token, made, why


def open_listener(name, port):
    """Reserve, bind, join: (connection, socket, token)"""
    peer = Peer(name)
    _, page = peer.ask(RESERVE, address(port) + struct.pack("=64s12I", b"", 0, 60000, 0, 0xFFFFFFFF,
                                                             0, 1, 0, 0, 0, 0, 0, 0))
    os.close(page[0])
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    cookie = listener.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
    body, _ = peer.ask(JOIN, address(port) + b"\0" * 4 + cookie + struct.pack("=iI", 64, 0),
                       listener.fileno())
    return peer, listener, joined(body)[1]


def claim(name, token):
    """(connection, slot, the socket made for it or None)"""
    peer = Peer(name)
    body, fds = peer.ask(CLAIM, token + struct.pack("=QII", 0, OWN_ONE, 0))
    slot, _, made, why = joined(body)
    check(why == 0 and len(fds) == 2 * made, f"made {made}, why {why}, {len(fds)} descriptors")
    if not made:
        return peer, slot, None
    os.close(fds[1])
    return peer, slot, socket.socket(fileno=fds[0])


class Clients:
    """Connects all the time, each connection to be accepted by somebody."""

    def __init__(self, port):
        self.port, self.made, self.failed, self.over = port, [], [], threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while not self.over.is_set() and len(self.made) < 60:  # the first one's backlog is 64
            try:
                self.made.append(socket.create_connection(("127.0.0.1", self.port), 10))
            except OSError as error:
                self.failed.append(error)
            time.sleep(0.002)

    def end(self):
        self.over.set()
        self.thread.join()


def accept_all(listeners):
    """The ports of the clients that wait in these sockets."""
    ports = []
    while True:
        ready, _, _ = select.select(listeners, [], [], 0.1)
        if not ready:
            return ports
        for listener in ready:
            taken, peer = listener.accept()
            ports.append(peer[1])
            taken.close()


def succeeded(name, token, peer, slot, made, look):
    """A worker ends, and the next one has its slot and its very socket."""

    def orphaned():
        return [s["state"] for s in look()["groups"][0]["slots"] if s["slot"] == slot] == ["orphan"]

    inode = os.fstat(made.fileno()).st_ino
    made.close()
    peer.socket.close()
    until(10, f"slot {slot} an orphan", orphaned)
    peer, again, made = claim(name, token)
    check(made is not None and again == slot and os.fstat(made.fileno()).st_ino == inode,
          f"slot {again} instead of {slot}, or another socket")
    return peer, slot, made


def scenario(point, nth, port):
    """One listener, three processes that claim it. Was the worker killed?"""
    name = f"claims/{os.getpid()}/{port}"
    env = {"SOCKSHARD_KEEPER": name}
    keeper = Process(FAULTY, "keeper", "--foreground", f"--name={name}", "--idle=120",
                     env={**env, "SOCKSHARD_FAULT": f"{point}:{nth}"})

    def look():
        return json.loads(call(COMMAND, "status", "--json", env=env)[1])

    def descriptors():
        try:
            return len(os.listdir(f"/proc/{look()['keeper']['pid']}/fd"))
        except OSError:  # the worker may be killed at the end of the very question
            return 0

    until(10, "a keeper", lambda: look()["keeper"])
    opener, listener, token = open_listener(name, port)
    clients = Clients(port)
    workers = [claim(name, token) for _ in range(WORKERS)]
    clients.end()
    check([slot for _, slot, _ in workers] == list(range(WORKERS)), workers)
    check([made is not None for _, _, made in workers] == [False] + [True] * (WORKERS - 1))
    listeners = [listener] + [made for _, _, made in workers if made]
    slots = look()["groups"][0]["slots"]
    check([(s["slot"], s["state"], s["owners"]) for s in slots] ==
          [(i, "live", 1) for i in range(WORKERS)], slots)
    check(look()["groups"][0]["steered"] and not look()["groups"][0]["strangers"], look())
    # of each socket: itself, its page; of each connection: it alone (no pidfd was sent)
    until(10, f"no descriptor more, {descriptors()}",
          lambda: descriptors() == OWN + 2 * WORKERS + WORKERS + 1)
    expected = {c.getsockname()[1] for c in clients.made}
    got = set(accept_all(listeners))
    check(not clients.failed and got == expected,
          f"{len(expected - got)} of {len(expected)} lost", clients.failed)
    for client in clients.made:
        client.close()
    workers = workers[:1] + [succeeded(name, token, *worker, look) for worker in workers[1:]]
    listeners = [listener] + [made for _, _, made in workers[1:]]
    more = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(20)]
    got, expected = set(accept_all(listeners)), {c.getsockname()[1] for c in more}
    check(got == expected, f"{len(expected - got)} of 20 lost after other workers had come")
    for client in more:
        client.close()
    for socket_ in listeners + [opener.socket] + [peer.socket for peer, _, _ in workers]:
        socket_.close()
    pids = look()["keeper"]
    os.kill(pids["vault"], signal.SIGTERM)
    until(10, "the keeper's end", lambda: ended(pids["pid"]) and ended(pids["vault"]))
    if keeper.popen.poll() is None:
        keeper.popen.wait(10)
    return bool(re.search(r"worker \d+ is gone", keeper.output()))


def run_all(kills):
    jobs = [(point, nth, 20000 + i) for i, (point, nth) in enumerate(kills)]
    fired = side_by_side(AT_ONCE, jobs, scenario)
    never = [f"{point}:{nth}" for (point, nth, _), was in fired.items() if not was]
    print(f"{len(fired) - len(never)} kills, 0 lost, 0 twice; not passed so often: {never}")
    return never


def points():
    return call(FAULTY, "keeper", "--foreground", "--name=claims",
                env={"SOCKSHARD_FAULT": "list"})[1].split()


@test(120)
def killed_at_each_step_of_a_claim():
    own = [p for p in points() if p.startswith(("claim_", "made_"))]
    check(len(own) >= 6, own)
    never = run_all([(point, nth) for point in own for nth in (1, 2)])
    check(not never, "points that nothing passes:", never)


@test(300)
def killed_anywhere_while_processes_claim():
    other = [p for p in points() if p.startswith(BEFORE)]
    run_all([(point, nth) for point in other for nth in range(1, 15)])


main()
