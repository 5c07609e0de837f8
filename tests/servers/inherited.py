#!/usr/bin/env python3
"""Real servers whose listeners come from elsewhere: a service manager's sockets, a new binary's, those
of the process before. And whose workers `status` says they are, when who bound is gone."""

import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *
from forkservers import *

PORT = 8080
TIMES = pick(20, 4)


def with_a_socket_each(workers, n):
    """workers(): the processes that should have one"""

    def found():
        pids = workers()
        return pids if len(pids) == n and own_sockets(PORT, pids) else None

    return until(30, f"{n} workers with a socket each", found)


def parents():
    """pid -> whose worker status says it is"""
    return {slot["pid"]: slot["parent"] for slot in live(PORT).values()}


# --- socket activation


def activated(server, listener):
    """As sd_listen_fds(3) has it: the first descriptor is 3, and the process is meant that starts."""
    script = f'exec 3<&{listener.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$ LD_PRELOAD="$0"; exec "$@"'
    return Process(need("sh"), "-c", script, LIBRARY, *server.argv, pass_fds=[listener.fileno()],
                   env={**server.env, "SOCKSHARD_LOG": "info"}, start_new_session=True)


def by_its_manager(server):
    """It binds nothing, and stays the user who made the socket."""
    for word in ("-b", f"127.0.0.1:{PORT}", *(("-u", AS, "-g", AS) if ROOT else ())):
        server.argv.remove(word)
    return server


@test(60, "plain user")
def gunicorn_by_LISTEN_FDS():
    """Two of them on one socket of their manager's, two workers each."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", PORT))
        listener.listen(64)
        servers = [by_its_manager(gunicorn(PORT, workers=2)) for _ in range(2)]
        masters = [activated(server, listener) for server in servers]
        workers = with_a_socket_each(
            lambda: set().union(*(children(process.pid) for process in masters)), 4)
        counts = servers[0].answered(2000)
        check(set(counts) == workers, f"{counts} answered, the workers are {workers}")
        check(len(listeners(PORT)) == 4, listeners(PORT))
        check(group(PORT)["steered"] and not group(PORT)["strangers"], status())
        told, of = parents(), {pid: p.pid for p in masters for pid in children(p.pid)}
        check(told == of, f"status says {told}, it is {of}")


# --- who bound is gone


def of_its_master(server, n=WORKERS):
    pid = until(20, "a master", lambda: master(server))
    workers = with_a_socket_each(lambda: children(pid), n)
    until_live(n, PORT)
    told = parents()
    check(told == {worker: pid for worker in workers}, f"the master is {pid}, status says {told}")
    return pid


def quit(pid):
    os.kill(pid, signal.SIGQUIT)
    until(20, f"the end of {pid}", lambda: ended(pid))


@test(60, "plain user")
def nginx_as_a_daemon_is_its_workers_parent():
    """The process that bound has ended; then a new binary has the workers."""
    server = nginx(PORT, daemon="on").start(with_us=True)
    old = of_its_master(server)
    check(old != server.pid, "it is no daemon")
    os.kill(old, signal.SIGUSR2)
    until(20, "a new master", lambda: master(server) not in (None, old))
    os.kill(old, signal.SIGWINCH)
    until(20, "the end of the old workers", lambda: len(children(old)) == 1)
    new = of_its_master(server)
    check(new != old, "the same master")
    quit(old)
    check(of_its_master(server) == new, "another master")
    quit(new)
    until(10, "a free port", lambda: refuses(PORT))


# --- a socket for each worker by the server itself


@test(60, "plain user")
def nginx_that_shares_itself_has_a_slot_for_each_socket():
    server = nginx(PORT, listen="reuseport").start(with_us=True)
    until(20, "its workers", lambda: len(children(server.pid)) == WORKERS)
    server.answered(500)  # each has accepted
    until_live(WORKERS, PORT)
    counts, found = server.answered(4000), group(PORT)
    print(f"max/mean {unevenness(counts):.3f}", counts)
    check(set(counts) == children(server.pid) and unevenness(counts) <= 1.15, counts, found)
    check(len(listeners(PORT)) == WORKERS == len(found["slots"]), listeners(PORT), found)
    check(found["steered"] and not found["strangers"] and not found["lost"], found)
    server.stop()


@test(120, "plain user")
def nginx_that_shares_itself_has_fewer_and_more_workers():
    """Its master binds the further ones' sockets long after its workers have accepted."""
    for daemon in ("off", "on"):
        server = nginx(PORT, listen="reuseport", daemon=daemon).start(with_us=True)
        pid = until(20, "a master", lambda: master(server))
        until(20, "its workers", lambda: len(children(pid)) == WORKERS)
        clients = Load(PORT, mode="http", clients=32)
        for n in [2, 4] * pick(10, 2):
            before = children(pid)
            nginx(PORT, workers=n, where=server.where, listen="reuseport", daemon=daemon)
            os.kill(pid, signal.SIGHUP)
            until(30, f"{n} new workers, and the end of {before}",
                  lambda: len(children(pid)) == n and all(map(ended, before)))
            until_live(n, PORT)
        clients.stop()
        result = clients.result()
        print(f"{result['total']} connections, failed {failed(result) or 0}")
        check(not failed(result), failed(result), clients.failures()[:5], status())
        found = group(PORT)
        check(found["steered"] and not found["strangers"] and not found["lost"], found)
        os.kill(pid, signal.SIGTERM)
        until(10, "a free port", lambda: refuses(PORT))


# --- haproxy without a master


def next_haproxy(server, before, how):
    """How its man page has it: the sockets from the one before, which then finishes."""
    process = preloaded(*server.argv, "-x", f"{server.where}/socket", how, before.pid)
    check(before.wait() == 0, before.output())
    until(20, "its own sockets", lambda: len(live(PORT)) == 2
          and {slot["pid"] for slot in live(PORT).values()} == {process.pid})
    return process


def in_the_long_form(function):
    return test(180, "plain user")(function) if LONG else function


@in_the_long_form
def haproxy_by_sf_and_x():
    server = haproxy(PORT)
    server.argv.remove("-W")
    server.start(with_us=True)
    until_live(2, PORT)
    clients, process = Load(PORT, mode="http", clients=32), server.process
    for _ in range(TIMES):
        process = next_haproxy(server, process, "-sf")
    clients.stop()
    result = clients.result()
    print(f"haproxy, {TIMES} times -sf: {result['total']} connections, failed {failed(result) or 0}")
    check(not failed(result), failed(result), clients.failures()[:5], status())
    found = group(PORT)
    check(found["steered"] and not found["strangers"] and not found["lost"], found)
    check(set(server.answered(500)) == {process.pid}, status())


main()
