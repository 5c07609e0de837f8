#!/usr/bin/env python3
"""Servers that bind once and fork (prefork.c and others beside this file), and listeners that a program
finds open: one listening socket for each process that accepts, or one line that says why not."""

import collections
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8100
BOTH = "plain user"
INFO = {"SOCKSHARD_LOG": "info"}


def ask(port=PORT):
    return int(tcp(port).split()[0])


def children(pid):
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry))
        except (OSError, ValueError):
            continue
    return sorted(found)


def listeners(port=PORT):
    """inodes of the listening sockets of a port"""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in list(file)[1:]]
    return {int(r[9]) for r in rows if r[3] == "0A" and r[1].endswith(f":{port:04X}")}


def sockets_of(pid, port=PORT):
    """listening sockets of a port that a process holds"""
    held = set()
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended
        return held
    for entry in entries:
        try:
            name = os.readlink(f"/proc/{pid}/fd/{entry}")
        except OSError:
            continue
        if name.startswith("socket:["):
            held.add(int(name[8:-1]))
    return held & listeners(port)


def prefork(how, option=None, n=4, env=None, preload=True):
    start = preloaded if preload else Process
    words = [how, n] + ([option] if option else [])
    server = start(helper("preload/prefork"), PORT, *words, env={**INFO, **(env or {})})
    server.says("^ready")
    return server


def each_has_its_own(pids):
    """Every process listens on one socket, and no two on the same."""
    held = [sockets_of(pid) for pid in pids]
    return all(len(h) == 1 for h in held) and len(set.union(*held)) == len(held)


def all_answer(pids, n=400):
    seen = collections.Counter(ask() for _ in range(n))
    check(set(seen) == set(pids), f"answers came from {seen}, not {pids}")
    return seen


def crowd():
    """Several clients at once, so that not the same process is always the quickest."""
    clients = [socket.create_connection(("127.0.0.1", PORT), 20) for _ in range(8)]
    for client in clients:
        client.settimeout(0.05)
        try:
            client.recv(100)
        except socket.timeout:
            continue
    for client in clients:
        client.close()
    return True


def own_sockets(server, pids, slots=None):
    until(20, "a socket for each of " + str(pids), lambda: crowd() and each_has_its_own(pids))
    until_live(slots or len(pids), PORT)
    check(len(listeners()) == (slots or len(pids)), listeners())
    check(group(PORT)["steered"], status())
    all_answer(pids)
    check(group(PORT)["lost"] == 0, status())


def one_socket(pids):
    for _ in range(50):
        ask()
    check(len(listeners()) == 1, "listening sockets:", listeners())
    found = {ask() for _ in range(400)}
    check(found <= set(pids), f"answers came from {found}")


def native(how, option=None):
    server = prefork(how, option, preload=False)
    check(ask() > 0 and len(listeners()) == 1)
    server.signal(signal.SIGTERM)
    server.wait()
    until(5, "a free port", lambda: refuses(PORT))


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


def workers_that_listen_themselves(how):
    """hypercorn, asyncio: each of them calls listen on the one socket that the parent has bound. All come
    and go together, too: the parent has the socket all the time."""
    server = workers_have_their_own(how, "listen")
    for _ in range(3):
        before = children(server.pid)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(20, "other workers", lambda: len(children(server.pid)) == 4 and
              not set(before) & set(children(server.pid)))
        own_sockets(server, children(server.pid))
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


def signed(fd, peer, key=b"secret"):
    """TCP_MD5SIG, tcp(7): what goes to and comes from that address is signed."""
    address = struct.pack("=H2x4s", socket.AF_INET, socket.inet_aton(peer)).ljust(128, b"\0")
    sig = address + struct.pack("=BBHi80s", 0, 0, len(key), 0, key)
    fd.setsockopt(socket.IPPROTO_TCP, 14, sig)


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


def keeper_pids():
    found = status()
    return [found["keeper"]["pid"], found["keeper"]["vault"]]


def with_the_keeper_stopped(server):
    """Workers that begin now cannot be granted anything."""
    first = children(server.pid)
    stopped = keeper_pids()
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


def end_keeper():
    pids = keeper_pids()
    for pid in pids:  # else one of them makes the other anew
        freeze(pid)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(5, "the end of the keeper", lambda: status()["keeper"] is None)


@test(60, BOTH)
def workers_are_known_to_the_next_keeper():
    server = prefork("epoll")
    pids = children(server.pid)
    own_sockets(server, pids)
    end_keeper()
    own_sockets(server, pids)
    os.kill(pids[0], signal.SIGKILL)
    until(10, "a successor", lambda: len(set(children(server.pid)) - {pids[0]}) == 4)
    own_sockets(server, children(server.pid))


@test(60, BOTH)
def workers_that_share_are_known_to_the_next_keeper():
    server = prefork("accept", env={"SOCKSHARD_WORKERS": "shared"})
    pids = children(server.pid)
    one_socket(pids)
    end_keeper()
    until(20, "one live slot", lambda: ask() and len(live(PORT)) == 1)
    one_socket(pids)


@test(60, BOTH)
def a_worker_that_the_next_keeper_meets_shares_for_the_key_too():
    server = keyed("bind")
    pids = children(server.pid)
    one_socket(pids)
    end_keeper()
    until(20, "one live slot", lambda: ask() and len(live(PORT)) == 1)
    server.signal(signal.SIGUSR1)
    until(10, "one more worker", lambda: len(children(server.pid)) == len(pids) + 1)
    (late,) = set(children(server.pid)) - set(pids)
    until(20, "its share", lambda: crowd() and ask() == late)
    one_socket([*pids, late])
    check(all(ask_signed() in [*pids, late] for _ in range(20)))


# --- listeners that a program finds open


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


def activated(n, how, option, user=None, key=False):
    """As a service manager does: the socket is made by somebody else, and kept by him."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", PORT))
        if key:
            signed(listener, "127.0.0.9")
        listener.listen(64)
        os.set_inheritable(listener.fileno(), True)
        fd = listener.fileno()
        found = [
            preloaded(
                helper("preload/prefork"), PORT, how, option, fd, env=INFO, pass_fds=[fd], user=user
            )
            for _ in range(n)
        ]
        for server in found:
            server.says("^ready")
        return found


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
