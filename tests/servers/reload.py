#!/usr/bin/env python3
"""Fork servers that reload, grow, shrink, change their binary and lose workers, under load: no client
sees a failure but those whose connection a killed worker had accepted. Printed beside it: what the
same server does to its clients without us."""

import contextlib
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *
from forkservers import *

PORT = 8080
BOTH = "plain user"
SOME = pick(BOTH, "plain")
TIMES = pick(20, 4)
FEW = pick(10, 2)  # of those that take their time
REST = pick(0.5, 0)  # between two reloads, s: else the next one ends workers that have not begun


def in_the_long_form(function):
    """Servers that take their time."""
    return test(180, BOTH)(function) if LONG else function


@contextlib.contextmanager
def load(port=PORT):
    """Clients at work; the result is in the dict once they have ended."""
    result = {}
    clients = Load(port, mode="http", clients=32)
    time.sleep(0.2)  # every reload meets connections in all states
    yield result
    time.sleep(0.5)
    clients.stop()
    result.update(clients.result())
    result["failures"] = clients.failures()


def tell(what, result):
    print(f"{what}: {result['total']} connections, failed: {failed(result) or 0}, "
          f"p99 {result['p99_ms']} ms, max {result['max_ms']} ms", flush=True)


def note_accepted(server):
    """What it accepts is noted from now on, by itself and what it becomes."""
    server.accepted = write(os.path.join(folder(), "accepted"), "")
    os.chmod(server.accepted, 0o666)
    return server


def without_their_own(server, result):
    """The failures but the resets of what a worker had accepted: it has ended with them."""
    accepted = {}
    with open(server.accepted) as file:
        for line in file:
            port, at = map(int, line.split())
            accepted.setdefault(port, []).append(at)
    others = [f for f in result["failures"] if f["outcome"] != "slow" and not (
        f["outcome"] == "reset" and f["bytes"] == 0 and
        any(f["begin"] <= at <= f["end"] for at in accepted.get(f["port"], ())))]
    own = sum(f["outcome"] != "slow" for f in result["failures"]) - len(others)
    print(f"reset after a worker had accepted them: {own}, failed besides: {len(others)}", flush=True)
    return others


def none_failed(what, configured, change, *, beside=None, n=WORKERS, ends_with_clients=False):
    """change(server) under load: with us nothing fails, and n workers have a socket each in the end.
    beside: the server without us whose failures are told; the same one in the long form.
    ends_with_clients: its workers may end with what they have just accepted, with us or without."""
    noted = note_accepted if ends_with_clients else lambda server: server
    if beside or LONG:
        server = noted((beside or configured)(PORT + 1)).start(with_us=False)
        until(20, "workers", lambda: len(workers_of(server)) == WORKERS)
        server.answered(200)
        with load(server.port) as result:
            change(server)
        tell(f"{what}, without sockshard", result)
        if ends_with_clients:
            without_their_own(server, result)
        end(server)
    server = noted(configured(PORT)).start(with_us=True)
    settled(server)
    with load() as result:
        change(server)
    tell(f"{what}, with sockshard", result)
    if ends_with_clients:
        check(not (others := without_their_own(server, result)), what, others[:5], status())
    else:
        check(not failed(result), what, failed(result), result["failures"][:5], status())
    settled(server, n)
    server.answered(500)
    end(server)
    check(not listeners(PORT), "somebody still listens:", listeners(PORT))


def end(server):
    """The master may be another process by now."""
    with open(f"{server.where}/pid") as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGTERM)
    until(20, f"a free port {server.port}", lambda: refuses(server.port))
    until(10, f"the end of {pid}", lambda: ended(pid))


def workers_of(server):
    pid = master(server)
    return children(pid) if pid else set()


def settled(server, n=WORKERS, without=()):
    """n workers of now, none of them of before, with a socket each"""

    def workers():
        found = workers_of(server)
        good = len(found) == n and not found & set(without) and own_sockets(server.port, found)
        return found if good else None

    return until(30, f"{n} workers with a socket each", workers)


def renewed(server, before, n=WORKERS):
    """n workers, none of before: and those have ended"""

    def workers():
        found = workers_of(server)
        return len(found) == n and not found & before and all(map(ended, before))

    until(60, f"{n} new workers instead of {before}", workers)


def signals(number, times, *, seen=False):
    """A change: a signal to the master, until all workers are new, several times. seen: and until each
    has answered: uWSGI loses a signal that comes before."""

    def change(server):
        for _ in range(times):
            before = children(master(server))
            os.kill(master(server), number)
            renewed(server, before)
            time.sleep(REST)
            if seen:
                until(20, "answers of all workers",
                      lambda: set(server.answered(50)) >= workers_of(server))

    return change


# --- nginx


def reuseport(port):
    return nginx(port, listen="reuseport")


@test(180, BOTH)
def nginx_reloads():
    none_failed(f"nginx, {TIMES} reloads", nginx, signals(signal.SIGHUP, TIMES),
                beside=reuseport)


@test(180, BOTH)
def nginx_with_fewer_workers():
    """In the long form with more again, and fewer: without us what waits for those that go is reset."""
    turns = [2, 4] * pick(10, 0) + [2]

    def shrink(server):
        listen = "reuseport" if server.port != PORT else ""
        for n in turns:
            before = children(master(server))
            nginx(server.port, workers=n, where=server.where, listen=listen)
            os.kill(master(server), signal.SIGHUP)
            renewed(server, before, n)
            if server.port == PORT:
                settled(server, n)

    none_failed(f"nginx, {len(turns)} times 4 workers -> 2 or back", nginx, shrink, beside=reuseport, n=2)


@test(180, BOTH)
def nginx_gets_a_new_binary():
    def upgrade(server):
        for _ in range(pick(5, 1)):
            old = master(server)
            os.kill(old, signal.SIGUSR2)
            new = until(20, "a new master", lambda: master(server) not in (None, old)
                        and master(server))
            until(20, "its workers", lambda: len(children(new)) == WORKERS)
            time.sleep(0.3)
            before = children(old) - {new}
            os.kill(old, signal.SIGWINCH)
            until(30, "the end of the old workers", lambda: all(map(ended, before)))
            time.sleep(0.3)
            os.kill(old, signal.SIGQUIT)
            until(20, "the end of the old master", lambda: ended(old))

    none_failed("nginx, new binary", lambda port: nginx(port, daemon="on"), upgrade,
                beside=lambda port: nginx(port, listen="reuseport", daemon="on"))


# --- lighttpd


@test(180, SOME)
def lighttpd_graceful():
    none_failed(f"lighttpd, {FEW} times USR1", lighttpd, signals(signal.SIGUSR1, FEW))


# --- gunicorn


@test(180, SOME)
def gunicorn_hup():
    none_failed(f"gunicorn, {FEW} times HUP", gunicorn, signals(signal.SIGHUP, FEW))


@test(180, SOME)
def gunicorn_grows_and_shrinks():
    def scale(server):
        pid = master(server)
        for number, n in ((signal.SIGTTIN, 5), (signal.SIGTTIN, 6), (signal.SIGTTOU, 5),
                          (signal.SIGTTOU, 4), (signal.SIGTTOU, 3), (signal.SIGTTIN, 4)):
            os.kill(pid, number)
            if server.port == PORT:
                settled(server, n)
            else:
                until(20, f"{n} workers", lambda: len(children(pid)) == n)

    none_failed("gunicorn, TTIN and TTOU", gunicorn, scale)


@test(180, SOME)
def gunicorn_shares_after_hup_ttou_and_ttin():
    """A worker that comes to a slot which another has left has as much as the others."""
    server = gunicorn(PORT).start(with_us=True)
    before = settled(server)
    os.kill(master(server), signal.SIGHUP)
    settled(server, without=before)
    for number, n in ((signal.SIGTTOU, 3), (signal.SIGTTOU, 2), (signal.SIGTTIN, 3),
                      (signal.SIGTTIN, 4)):
        os.kill(master(server), number)
        settled(server, n)
    counts = server.answered(6000)
    print(f"max/mean {unevenness(counts):.3f}", sorted(counts.values(), reverse=True))
    # 6 standard deviations of chance
    check(len(counts) == WORKERS and unevenness(counts) <= 1.14, "shares are not even:", counts, status())
    end(server)


@test(180, BOTH)
def gunicorn_usr2():
    def upgrade(server):
        old = master(server)
        os.kill(old, signal.SIGUSR2)
        second = f"{server.where}/pid.2"
        until(20, "a second pid file", lambda: os.path.exists(second) and os.path.getsize(second))
        with open(second) as file:
            new = int(file.read())
        until(20, "its workers", lambda: len(children(new)) == WORKERS)
        time.sleep(0.5)
        os.kill(old, signal.SIGTERM)
        until(30, "the end of the old master", lambda: ended(old))
        until(10, "its pid file", lambda: master(server) == new)

    none_failed("gunicorn, USR2 and TERM", gunicorn, upgrade)


@test(180, SOME)
def gunicorn_max_requests():
    def wait(server):
        before = children(master(server))
        time.sleep(pick(20, 0))
        until(60, "the end of all workers", lambda: not before & children(master(server)))

    none_failed("gunicorn, max_requests 50",
                lambda port: gunicorn(port, more=["--max-requests", 50]), wait)


# --- apache, uwsgi


@test(180, SOME)
def apache_prefork_graceful():
    none_failed(f"apache prefork, {FEW} times graceful", apache_prefork,
                signals(signal.SIGUSR1, FEW))


@test(180, SOME)
def apache_event_graceful():
    none_failed(f"apache event, {FEW} times graceful", apache_event,
                signals(signal.SIGUSR1, FEW), ends_with_clients=True)


@test(180, SOME)
def uwsgi_hup():
    """It becomes itself anew by exec, with the listener. A worker that HUP meets between accept(2) and
    the first byte ends at once."""
    none_failed(f"uwsgi, {FEW} times HUP", uwsgi, signals(signal.SIGHUP, FEW, seen=True),
                beside=uwsgi, ends_with_clients=True)


def reload_haproxy(server):
    """Its master loses a signal that comes before its loop, with us and without."""
    before, sent = children(server.pid), 0

    def renewed():
        nonlocal sent
        now = children(server.pid)
        if now == before and time.monotonic() > sent + 2:
            server.process.signal(signal.SIGUSR2)
            sent = time.monotonic()
        return now and not now & before

    until(30, "another worker alone", renewed)
    until_live(2, PORT)


def reloaded_haproxy():
    """The server and the result of its load; no server: it had no time to hand over its sockets."""
    server = haproxy(PORT).start(with_us=True)
    until_live(2, PORT)
    with load() as result:
        for _ in range(pick(20, 5)):
            reload_haproxy(server)
    tell(f"haproxy with 2 shards, {pick(20, 5)} reloads", result)
    if not failed(result) or "Failed to get the sockets" not in server.process.output():
        return server, result
    server.stop()
    return None, result


@test(180, BOTH)
def haproxy_hands_its_shards_to_the_next_worker():
    """It asks for sharing itself, a socket for each of its threads; the next worker's come by SCM_RIGHTS.
    Its old worker has 1 s to send them: else it says so and resets what waits, with us and without."""
    for _ in range(3):
        server, result = reloaded_haproxy()
        if server:
            break
        print("haproxy's old worker did not send its sockets within 1 s; once more", flush=True)
    check(server and not failed(result), failed(result), result["failures"][:5], status())
    before = until_live(2, PORT)
    server.answered(1000)
    found = group(PORT)
    shares = [slot["accepted"] - before[number]["accepted"] for number, slot in live(PORT).items()]
    check(sum(shares) == 1000 and min(shares) > 400, "shares:", shares, found)
    check(found["steered"] and not found["strangers"] and not found["lost"], found)


# --- puma


@in_the_long_form
def puma_phased_restart():
    none_failed(f"puma, {FEW} times USR1", puma, signals(signal.SIGUSR1, FEW, seen=True))


@in_the_long_form
def puma_hot_restart():
    """It becomes itself anew by exec, with the listener."""
    none_failed(f"puma, {FEW} times USR2", puma, signals(signal.SIGUSR2, FEW, seen=True))


# --- a worker's death


def killed(server):
    """Only what a killed worker had accepted is lost."""
    server.start(with_us=True)
    settled(server)
    deaths = []
    with load() as result:
        for _ in range(pick(20, 5)):
            workers = settled(server)
            deaths.append(Death(random.choice(sorted(workers)), PORT))
            settled(server, without={deaths[-1].pid})
    tell(f"{server.argv[0]}, {len(deaths)} workers killed", result)
    unexplained = lost(result["failures"], deaths)
    print("accepted by the dead:", sum(len(d.own) for d in deaths), "lost besides:", len(unexplained))
    check(not unexplained, unexplained[:5])
    end(server)


@test(180, BOTH)
def nginx_worker_killed():
    killed(nginx(PORT))


@test(180, SOME)
def gunicorn_worker_killed():
    killed(gunicorn(PORT))


@test(180, SOME)
def uwsgi_worker_killed():
    killed(uwsgi(PORT))


main()
