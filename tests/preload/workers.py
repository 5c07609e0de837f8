#!/usr/bin/env python3
"""Servers that bind once and fork (prefork.c and others beside this file): one listening socket for each
process that accepts, or one line that says why not."""

import os
import re
import select
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from preforked import *


def workers_have_their_own(how, option=None, **more):
    native(how, option)
    server = prefork(how, option, **more)
    # by that call alone: a client would make them accept
    until(20, "a socket for each before the first client",
          lambda: each_has_its_own(children(server.pid)))
    own_sockets(server, children(server.pid))
    return server


for call_name in ("accept", "poll", "select", "epoll"):
    test(60, BOTH, f"each_worker_has_a_socket_by_its_first_{call_name}")(
        lambda how=call_name: workers_have_their_own(how)
    )
for call_name in ("accept4", "ppoll", "poll_chk", "ppoll_chk", "pselect", "epoll_pwait", "epoll_pwait2"):
    test(60, "plain", f"each_worker_has_a_socket_by_its_first_{call_name}")(
        lambda how=call_name: workers_have_their_own(how)
    )
for call_name in ("accept", "epoll"):
    test(60, BOTH, f"threads_of_a_worker_claim_once_by_{call_name}")(
        lambda how=call_name: workers_have_their_own(how, "threads")
    )
    test(60, "plain", f"workers_of_another_user_have_their_own_by_{call_name}")(
        lambda how=call_name: workers_have_their_own(how, "user")
    )
    test(60, "plain", f"workers_in_an_empty_root_have_their_own_by_{call_name}")(
        lambda how=call_name: workers_have_their_own(how, "chroot")
    )
test(60, BOTH, "workers_after_the_environment_was_overwritten_have_their_own")(
    lambda: workers_have_their_own("accept", "environ")
)


def served_by_parent_too(how):
    native(how, "parent")
    server = prefork(how, "parent")
    own_sockets(server, [server.pid, *children(server.pid)])


for call_name in ("accept", "poll", "select", "epoll"):
    test(60, BOTH, f"a_parent_that_accepts_too_by_{call_name}")(
        lambda how=call_name: served_by_parent_too(how)
    )


def others(server, before):
    """Four workers that are none of these; what is being reaped is one of these."""
    pids = children(server.pid)
    return pids if len(pids) == 4 and not set(before) & set(pids) else None


def workers_that_listen_themselves(how):
    """hypercorn, asyncio: each of them calls listen on the one socket that the parent has bound. All come
    and go together, too: the parent has the socket all the time."""
    server = workers_have_their_own(how, "listen")
    for _ in range(3):
        before = children(server.pid)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        own_sockets(server, until(20, "other workers", lambda: others(server, before)))
    check(not re.search("the keeper does not answer", server.output()), server.output())


for call_name in ("accept", "epoll"):
    test(60, BOTH, f"workers_that_listen_themselves_have_their_own_by_{call_name}")(
        lambda how=call_name: workers_that_listen_themselves(how)
    )


@test(60, BOTH)
def a_parent_that_accepts_later_gets_a_socket_of_its_own():
    server = prefork("epoll", "later")
    own_sockets(server, children(server.pid), 4)
    server.signal(signal.SIGUSR1)
    until(10, "a fifth socket", lambda: len(listeners()) == 5)
    own_sockets(server, [server.pid, *children(server.pid)])


@test(60, BOTH)
def a_child_that_never_accepts_costs_no_socket():
    server = prefork("accept", "idle")
    workers = children(server.pid)
    until(10, "4 sockets", lambda: ask() and len(listeners()) == 4)
    until_live(4, PORT)
    seen = {ask() for _ in range(400)}
    check(len(seen) == 4 and seen < set(workers), seen)


def stays_shared(how, option, line):
    native(how, option)
    server = prefork(how, option)
    one_socket(children(server.pid))
    if line:
        server.says(line)
    return server


@test(60, BOTH)
def an_epoll_instance_of_all_workers_keeps_the_socket_shared():
    stays_shared("epoll", "epoll", "workers share one socket: it is registered with an epoll")


@test(60, BOTH)
def a_record_lock_around_accept_keeps_the_socket_shared():
    stays_shared("accept", "lock", "workers share one socket: accepts are serialised by a lock")


@test(60, BOTH)
def a_lock_of_flock_around_accept_keeps_the_socket_shared():
    """Net::Server::PreFork"""
    stays_shared("accept", "flock", "workers share one socket: accepts are serialised by a lock")


@test(60, BOTH)
def a_semaphore_around_accept_keeps_the_socket_shared():
    """Net::Server::PreFork with `serialize semaphore`, apache with `Mutex sysvsem`"""
    stays_shared("accept", "semaphore", "workers share one socket: accepts are serialised by a lock")


@test(60, BOTH)
def workers_that_sandbox_themselves_first_share_in_silence():
    server = stays_shared("poll", "seccomp", None)
    check("share one" not in server.output() and len(children(server.pid)) == 4, server.output())


@test(60, BOTH)
def SOCKSHARD_WORKERS_shared_keeps_one_socket():
    server = prefork("epoll", env={"SOCKSHARD_WORKERS": "shared"})
    one_socket(children(server.pid))
    check("own" not in server.output(), server.output())


@test(60, BOTH)
def a_bad_SOCKSHARD_WORKERS_shares_nothing():
    server = prefork("epoll", env={"SOCKSHARD_WORKERS": "many"})
    server.says('SOCKSHARD_WORKERS: column 1: found "many", allowed: own or shared')
    check(not group(PORT), status())
    ask()


@test(60, BOTH)
def a_fork_for_each_connection_leaves_one_socket():
    server = preloaded(helper("preload/fork_each"), PORT)
    server.says("^ready")
    until_live(1, PORT)
    answers = {ask() for _ in range(100)}
    check(len(answers) == 100 and len(listeners()) == 1, answers, listeners())
    check(live(PORT)[0]["pid"] == server.pid, status())


@test(60, BOTH)
def a_daemon_by_two_forks_serves():
    for number in range(2):
        starter = preloaded(helper("preload/daemon"), PORT)
        starter.says("^ready", forks=True)
        check(starter.wait() == 0)
    until(10, "answers of both", lambda: len({ask() for _ in range(20)}) == 2)
    until_live(2, PORT)
    pids = {ask() for _ in range(100)}
    check({s["pid"] for s in live(PORT).values()} == pids, status())
    check(len(listeners()) == 2)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@test(60, BOTH)
def exec_with_the_listener_kept_then_workers_of_their_own():
    native("accept", "exec")
    server = prefork("epoll", "exec")
    own_sockets(server, children(server.pid))


@test(60, BOTH)
def a_killed_worker_has_its_slot_taken_by_its_successor():
    server = prefork("epoll")
    pids = children(server.pid)
    own_sockets(server, pids)
    for _ in range(8):
        victim = pids[0]
        os.kill(victim, signal.SIGKILL)
        until(10, "a successor", lambda: len(set(children(server.pid)) - {victim}) == 4)
        pids = children(server.pid)
        own_sockets(server, pids)
    check(sorted(live(PORT)) == [0, 1, 2, 3], status())
    check(group(PORT)["lost"] == 0, status())


def with_the_keeper_stopped(server):
    """Workers that begin now cannot be granted anything."""
    first = children(server.pid)
    keeper = status()["keeper"]
    stopped = [keeper["pid"], keeper["vault"]]
    for pid in stopped:
        freeze(pid)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    until(10, "successors", lambda: len(set(children(server.pid)) - set(first)) == 4)
    return stopped


@test(60, BOTH)
def a_worker_killed_while_it_claims_leaves_nothing_behind():
    server = prefork("epoll")
    own_sockets(server, children(server.pid))
    stopped = with_the_keeper_stopped(server)
    for pid in children(server.pid)[:2]:
        os.kill(pid, signal.SIGKILL)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    until(20, "sockets for all", lambda: ask() and each_has_its_own(children(server.pid)))
    until_live(4, PORT)
    all_answer(children(server.pid))


@test(90, BOTH)
def registrations_move_with_the_listener_once_the_keeper_answers():
    server = prefork("epoll", "count")
    own_sockets(server, children(server.pid))
    stopped = with_the_keeper_stopped(server)
    pids = children(server.pid)
    time.sleep(4)  # each has asked in vain, and waits
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    clients = []

    def moved():
        """A worker asks anew when it accepts, so that clients have to come, and not to stay."""
        clients.append(socket.create_connection(("127.0.0.1", PORT), 20))
        for client in select.select(clients, [], [], 0)[0]:
            check(client.recv(100), "a client was not served")
            clients.remove(client)
            client.close()
        return each_has_its_own(pids)

    until(60, "sockets for all", moved, 0.1)
    for client in clients:
        check(client.recv(100), "a client was not served")
        client.close()
    until_live(4, PORT)
    counts = {}
    for _ in range(400):
        pid, returns, accepted = (int(word) for word in tcp(PORT).split())
        counts[pid] = (returns, accepted)
    check(set(counts) == set(pids), counts)
    for returns, accepted in counts.values():
        check(returns < accepted + 50, "empty wake-ups:", counts)


def woken_by_the_keeper(how):
    """A client waits in the queue of a worker that died while the keeper stood still; its successors have
    asked in vain and wait where nobody comes."""
    server = prefork(how, env={"SOCKSHARD_LOG": "debug"})
    own_sockets(server, children(server.pid))
    for pid in children(server.pid):
        freeze(pid)
    clients = [socket.create_connection(("127.0.0.1", PORT), 60) for _ in range(20)]
    stopped = with_the_keeper_stopped(server)
    until(20, "questions in vain", lambda: server.output().count("the keeper does not grant it") >= 4)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    begun = time.monotonic()
    while clients:
        ready = select.select(clients, [], [], 40)[0]
        check(ready, f"{len(clients)} of 20 clients were not served", status())
        for client in ready:
            check(client.recv(100), "a client was not served")
            client.close()
            clients.remove(client)
    print(f"{how}: all were served after {time.monotonic() - begun:.1f} s")
    own_sockets(server, children(server.pid), slots=4)


for _how in ("accept", "epoll"):
    test(90, name=f"clients_of_dead_workers_are_served_once_a_stopped_keeper_goes_on_{_how}")(
        lambda how=_how: woken_by_the_keeper(how)
    )


def registrations(output, word):
    """pid -> what the kernel lists of its epoll instances: (instance, number, events, data) -> inode"""
    found = {}
    for line in re.findall(rf"^{word} (.*)$", output, re.M):
        pid, _, instance, _, number, events, data, _, inode = line.split()
        found.setdefault(int(pid), {})[instance, number, events, data] = int(inode)
    return found


@test(60, BOTH)
def registrations_of_all_kinds_move_as_they_were():
    """Two epoll instances, three numbers, each of edge-triggered, one-shot, exclusive, level, unarmed."""
    server = preloaded(helper("preload/registered"), PORT, 2, env=INFO)
    until(20, "two workers", lambda: len(re.findall("^flags", server.output(), re.M)) == 2)
    was, is_now = registrations(server.output(), "was"), registrations(server.output(), "is")
    check(len(was) == 2 and all(len(kinds) == 5 for kinds in was.values()), server.output())
    for line in re.findall("^flags (.*)$", server.output(), re.M):
        pid, *flags, one, two, three = (int(word) for word in line.split())
        check(was[pid].keys() == is_now[pid].keys(), server.output())
        check(set(is_now[pid].values()) == {one} == {two} == {three}, "another socket:", server.output())
        check(flags == [0, 1, 0, os.O_NONBLOCK], "flags:", flags)
    moved = [pid for pid in was if was[pid] != is_now[pid]]
    check(len(moved) == 1 and each_has_its_own(children(server.pid)), server.output())
    seen = {}
    while min(seen.values(), default=0) < 3 or len(seen) < 2:
        pid, edge, once, level, exclusive, unarmed, left = map(int, tcp(PORT, ending=b"\n").split())
        seen[pid] = seen.get(pid, 0) + 1
        check((edge, once, unarmed, left) == (1, int(seen[pid] == 1), 0, 0),
              edge, once, unarmed, left, server.output())
        check(level > 20 and exclusive > 20, level, exclusive)


@test(60, BOTH)
def workers_are_known_to_the_next_keeper():
    server = prefork("epoll")
    pids = children(server.pid)
    own_sockets(server, pids)
    kill_keeper()
    own_sockets(server, pids)
    os.kill(pids[0], signal.SIGKILL)
    until(10, "a successor", lambda: len(set(children(server.pid)) - {pids[0]}) == 4)
    own_sockets(server, children(server.pid))


@test(60, BOTH)
def workers_that_share_are_known_to_the_next_keeper():
    server = prefork("accept", env={"SOCKSHARD_WORKERS": "shared"})
    pids = children(server.pid)
    one_socket(pids)
    kill_keeper()
    until(20, "one live slot", lambda: ask() and len(live(PORT)) == 1)
    one_socket(pids)


main()
