#!/usr/bin/env python3
"""Listeners that a program finds open: sent by another process (pass.c beside this file), or handed down
by a service manager."""

import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from preforked import *


def receivers(option):
    server = preloaded(helper("preload/pass"), PORT, option, env=INFO)
    server.says("^ready")
    pids = children(server.pid)
    until(10, "a socket for each", lambda: ask() and each_has_its_own(pids))
    until_live(4, PORT)
    all_answer(pids)


test(60, BOTH, "a_listener_sent_by_SCM_RIGHTS_and_listened_to_again")(lambda: receivers("again"))
test(60, BOTH, "a_listener_sent_by_SCM_RIGHTS")(lambda: receivers("plain"))


def registered(option):
    """No connection has to come before each has a socket of its own."""
    server = preloaded(helper("preload/pass"), PORT, option, env=INFO)
    server.says("^ready")
    pids = children(server.pid)
    until(10, "a socket for each", lambda: each_has_its_own(pids))
    until_live(4, PORT)
    all_answer(pids)


test(60, BOTH, "a_listener_sent_and_registered_for_a_thread_that_waits")(lambda: registered("thread"))
test(60, BOTH, "a_listener_sent_before_it_listens")(lambda: registered("bound"))


@test(60, BOTH)
def a_listener_that_its_sender_closes_before_it_is_received():
    server = preloaded(helper("preload/pass"), PORT, "late", env=INFO)
    server.says("^ready")
    (child,) = children(server.pid)
    clients = [socket.create_connection(("127.0.0.1", PORT), 20) for _ in range(5)]
    os.kill(child, signal.SIGUSR1)
    for client in clients:
        check(int(client.recv(100)) == child, "a client was not served")
        client.close()
    until_live(1, PORT)
    found = group(PORT)
    check(not found["strangers"] and not found["lost"], found)


@test(60, BOTH)
def two_copies_of_a_socket_activated_server_have_a_socket_each():
    servers = activated(2, "poll", 1)
    pids = sum((children(server.pid) for server in servers), [])
    until(10, "answers of both", lambda: ask() and len({ask() for _ in range(20)}) == 2)
    until_live(2, PORT)
    all_answer(pids)
    check(len(listeners()) == 2, listeners())


@test(60, "plain")
def a_socket_of_another_user_is_left_alone_with_the_reason():
    (server,) = activated(1, "poll", 1, user=65534)
    ask()
    server.says("left alone: it was made by another user")
    check(not group(PORT), status())


main()
