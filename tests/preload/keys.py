#!/usr/bin/env python3
"""Workers and the keys of TCP_MD5SIG, which no socket option hands out: keyed.c beside this file."""

import os
import re
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from preforked import *


def ask_signed(wait=20):
    """The process that answers a client with the key; it is lost: None."""
    with socket.socket() as client:
        client.settimeout(wait)
        signed(client, "127.0.0.1")
        client.bind(("127.0.0.9", 0))
        try:
            client.connect(("127.0.0.1", PORT))
            return int(client.recv(100))
        except socket.timeout:
            return None


def keyed(when, preload=True):
    start = preloaded if preload else Process
    server = start(helper("preload/keyed"), PORT, when, env=INFO)
    server.says("^ready")
    return server


KEYS_STAY = r"workers share one socket: its option TCP_MD5SIG.* cannot be copied"


def a_key_keeps_the_socket_shared(when):
    server = keyed(when, preload=False)
    check(ask() > 0 and ask_signed() > 0)
    server.end()
    until(5, "a free port", lambda: refuses(PORT))
    server = keyed(when)
    pids = children(server.pid)
    until(10, "all claims", lambda: ask() and server.output().count("127.0.0.1:8100: ") >= len(pids))
    for _ in range(40):
        check(ask_signed() in pids, "a client with the key is lost:", server.output())
    one_socket(pids)
    server.says(KEYS_STAY)


for moment in ("bind", "listen", "fork"):
    test(60, BOTH, f"a_key_that_is_set_before_{moment}_keeps_the_socket_shared")(
        lambda when=moment: a_key_keeps_the_socket_shared(when)
    )


@test(60, BOTH)
def workers_after_a_key_was_taken_away_have_their_own():
    server = keyed("gone")
    own_sockets(server, children(server.pid))
    check("share one socket" not in server.output(), server.output())


@test(60, BOTH)
def a_key_of_a_listener_from_elsewhere_keeps_it_shared():
    servers = activated(2, "accept", 1, key=True)
    pids = sum((children(server.pid) for server in servers), [])
    one_socket(pids)
    until(20, "the reason", lambda: crowd() and [s for s in servers if re.search(KEYS_STAY, s.output())])
    for _ in range(20):
        check(ask_signed() in pids)


LATE_KEY = "TCP_MD5SIG comes after the first claim: workers that have a socket of their own do not get it"


@test(60, BOTH)
def a_key_that_the_parent_sets_late_is_told():
    server = keyed("late")
    own_sockets(server, children(server.pid))
    server.signal(signal.SIGUSR1)
    server.says(LATE_KEY)


@test(60, BOTH)
def a_key_that_a_worker_sets_in_its_own_socket_is_told():
    server = keyed("worker")
    own_sockets(server, children(server.pid))
    until(10, "a word of each worker", lambda: crowd() and server.output().count(LATE_KEY) == 4)


@test(60, BOTH)
def a_worker_that_the_next_keeper_meets_shares_for_the_key_too():
    server = keyed("bind")
    pids = children(server.pid)
    one_socket(pids)
    kill_keeper()
    until(20, "one live slot", lambda: ask() and len(live(PORT)) == 1)
    server.signal(signal.SIGUSR1)
    until(10, "one more worker", lambda: len(children(server.pid)) == len(pids) + 1)
    (late,) = set(children(server.pid)) - set(pids)
    until(20, "its share", lambda: crowd() and ask() == late)
    one_socket([*pids, late])
    check(all(ask_signed() in [*pids, late] for _ in range(20)))


main()
