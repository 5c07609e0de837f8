#!/usr/bin/env python3
"""`sockshard stop`: ends one launcher with its copies and touches no other; names what it may stop."""

import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8100
OTHER = 8101


def ident(port=PORT):
    return [helper("support/ident_server"), "tcp", "127.0.0.1", port]


def told(*words, env=None):
    code, out, err = call(COMMAND, "stop", *words, env=env)
    check(out == "", "stop wrote to stdout:", out)
    check(err == "" or err.startswith("sockshard: ") and err.count("\n") == 1, "not a line:", err)
    return code, err


def stopped(launcher, *words, port=PORT):
    """stop ends it; everything is over when it returns."""
    pids = [slot["pid"] for slot in live(port).values()]
    code, err = told(*words)
    with socket.socket() as plain:  # an unshimmed server
        # Not for a listener, which refuses all the same: a copy that TERM killed may have closed a
        # connection before its client did.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.bind(("127.0.0.1", port))
        plain.listen()
    check(code == 0 and err == "", words, "ended with", code, err)
    check(ended(launcher.pid) and all(ended(pid) for pid in pids), "something still runs")
    check(launcher.wait() == 0, launcher.output())


class Load:
    """Clients that ask one after the other until they are refused."""

    def __init__(self, n, port):
        self.port, self.answered, self.over = port, 0, threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(n)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        while not self.over.is_set():
            try:
                tcp(self.port, b"?")
            except OSError:
                return
            with self.lock:
                self.answered += 1

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(30)
        check(not any(thread.is_alive() for thread in self.threads), "a client hangs")


@test(60, ALL)
def without_a_launcher_it_says_so():
    for words in ((), ("web",)):
        code, err = told(*words)
        check(code == 69 and "no keeper runs here" in err, words, code, err)
    server = preloaded(*ident(), env={"SOCKSHARD_GROUP": "web"})
    server.says("^ready")
    until_live(1, PORT)
    for words in ((), ("web",)):
        code, err = told(*words)
        check(code == 69 and "no launcher" in err, words, code, err)
    check(told(env={"SOCKSHARD_KEEPER": "off"})[0] == 69)
    check(len(live(PORT)) == 1, status())


@test(60, ALL)
def bad_words_are_usage_errors():
    for words in (("a", "b"), ("a b",), ("",), ("--", "a"), ("-x",)):
        code, err = told(*words)
        check(code == 64 and err, words, code, err)
    for word in ("--help", "--version"):
        code, out, err = call(COMMAND, "stop", word)
        check(code == 0 and out and not err, word, code, out, err)


@test(90, ALL)
def one_of_two_groups_ends_under_load_and_the_other_serves_on():
    first = run(4, *ident(), options=["-g", "first"])
    second = run(2, *ident(OTHER), options=["-g", "second"])
    before = {slot["pid"] for slot in live(OTHER).values()}
    for words in ((), ("third",)):
        code, err = told(*words)
        check(code == 64 and "first" in err and "second" in err, words, code, err)
    check(len(live(PORT)) == 4 and len(live(OTHER)) == 2, status())
    loads = [Load(32, PORT), Load(4, OTHER)]
    until(20, "load on both", lambda: min(load.answered for load in loads) > 200)
    stopped(first, "first")
    loads[0].end()
    answered = loads[1].answered
    until(20, "more answers of the other group", lambda: loads[1].answered > answered + 100)
    check(all(thread.is_alive() for thread in loads[1].threads), "a client of the other failed")
    loads[1].end()
    check({slot["pid"] for slot in live(OTHER).values()} == before, status())
    check(second.popen.poll() is None)
    stopped(second, port=OTHER)  # the only one that is left: no name needed


@test(60, ALL)
def two_launchers_of_one_group_are_both_stopped():
    launchers = [run(1, *ident(), options=["-g", "both"]) for _ in range(2)]
    until_live(2, PORT)
    code, err = told()
    check(code == 64 and "2 launchers" in err and err.count("both") == 1, code, err)
    stopped(launchers[0], "both")
    check(ended(launchers[1].pid) and launchers[1].wait() == 0)


@test(60, ALL)
def python_servers_end_too():
    launcher = run(2, need("python3"), "-m", "http.server", "--bind", "127.0.0.1", PORT)
    stopped(launcher)


@test(60, ALL)
def it_waits_says_so_once_and_hurries_nobody():
    stubborn = ["sh", "-c", 'trap "" TERM; exec "$@"', "sh", *ident()]
    launcher = run(1, *stubborn, options=["--grace", "13"])
    start = time.monotonic()
    one = Process(COMMAND, "stop")
    until(5, "a launcher that stops",
          lambda: not any(slot["supervised"] for slot in live(PORT).values()))
    code, _ = told()  # a second one waits with it, and its TERM would have meant KILL
    took = time.monotonic() - start
    check(code == 0 and 12.5 < took < 25, "ended with", code, "after", took)
    check(one.wait() == 0 and launcher.wait() == 0)
    check(one.output().count("\n") == 1 and "waiting for the launcher" in one.output(),
          one.output())


@test(60, "plain user")
def a_launcher_in_another_pid_namespace_is_left_alone():
    unshare = ["unshare", "-p", "-f", "--kill-child", "--mount-proc"]
    if os.getuid() != 0:
        unshare[1:1] = ["-c"]
    outer = preloaded(*ident(OTHER))  # the keeper is of our own namespace
    outer.says("^ready")
    until_live(1, OTHER)
    inner = run(1, *ident(), options=["-g", "inner"])
    code, _, err = call(*unshare, COMMAND, "stop", "inner")
    check(code == 69 and "pid namespace" in err, code, err)
    check(len(live(PORT)) == 1 and inner.popen.poll() is None)
    stopped(inner, "inner")


@test(60)
def check_tells_what_the_kernels_own_migration_adds():
    path = "/proc/sys/net/ipv4/tcp_migrate_req"
    check(os.path.exists(path), "needs Linux 5.14")
    # of this test's own network namespace
    for value, words in (("0", "is 0: nothing is needed"), ("1", "is 1: the kernel itself moves")):
        write(path, value)
        code, out, err = call(COMMAND, "check")
        check(code == 0 and f"net.ipv4.tcp_migrate_req {words}" in out, code, out, err)
        check(out.count("tcp_migrate_req") == 1, out)


main()
