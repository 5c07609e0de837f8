#!/usr/bin/env python3
"""Whoever is not of the group gets EADDRINUSE as without us, or no connection at all."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8060
IN_USE = "Address already in use"


def ident(address="127.0.0.1", *words, proto="tcp"):
    return [helper("support/ident_server"), proto, address, PORT, *words]


def unharmed(n=2, total=200):
    """The group's own copies get everything."""
    check(len(live(PORT)) == n, "live slots:", status())
    mine = {s["pid"] for s in live(PORT).values()}
    answers = {int(tcp(PORT, b"?").split()[1]) for _ in range(total)}
    check(answers == mine, f"answers came from {answers}, the group is {mine}")


@test(60, ALL)
def a_second_run_is_refused_by_its_servers_own_message():
    server = [need("python3"), "-m", "http.server", "--bind", "127.0.0.1", PORT]
    first = run(2, *server)
    pids = {s["pid"] for s in live(PORT).values()}
    second = Process(COMMAND, "run", "-n", 1, "--", *server) # two would mix their messages
    code = second.wait(30)
    check(code == 1, "the second run ended with", code, second.output())
    check(f"OSError: [Errno 98] {IN_USE}" in second.output(), second.output())
    check("copies listen" not in second.output(), second.output())
    check({s["pid"] for s in live(PORT).values()} == pids, "the first was harmed:", status())
    stop(first, PORT)


@test(60, ALL)
def another_group_is_refused():
    run(2, *ident(), options=["-g", "mine"])
    for env in ({"SOCKSHARD_GROUP": "yours"}, {}):
        other = preloaded(*ident(), env=env)
        check(other.wait() == 1 and f"bind: {IN_USE}" in other.output(), env, other.output())
    third = preloaded(*ident(), env={"SOCKSHARD_GROUP": "mine"})
    third.says("^ready")
    until_live(3, PORT)
    unharmed(3)


@test(60, ALL)
def overlapping_addresses_are_refused():
    for mine, others in (
        ("127.0.0.1", [("0.0.0.0",), ("::",)]),
        ("0.0.0.0", [("127.0.0.1",), ("::",)]),
        ("::", [("127.0.0.1",), ("0.0.0.0",), ("::1",)]),
    ):
        first = run(2, *ident(mine), options=["-g", "same"])
        for other in others:
            for name in ("same", "other"):
                late = preloaded(*ident(*other), env={"SOCKSHARD_GROUP": name})
                code = late.wait()
                check(code == 1 and f"bind: {IN_USE}" in late.output(),
                      f"{other} beside {mine}, group {name}: {code} {late.output()}")
        unharmed()
        stop(first, PORT)
    # these two do not overlap
    first = run(2, *ident("::", "v6only"), options=["-g", "same"])
    beside = preloaded(*ident("0.0.0.0"), env={"SOCKSHARD_GROUP": "same"})
    beside.says("^ready")
    check(tcp(PORT, b"?") == b"- %d\n" % beside.pid)
    check(first.popen.poll() is None)


@test(60, ALL)
def without_the_preload_a_port_of_ours_is_taken():
    run(2, *ident())
    late = Process(*ident())
    check(late.wait() == 1 and f"bind: {IN_USE}" in late.output(), late.output())
    unharmed()


def named(pid):
    found = group(PORT)
    return found and any(str(pid) in json.dumps(s) for s in found["strangers"])


@test(60, ALL)
def a_program_with_the_option_of_its_own_gets_nothing_and_is_named():
    launcher = run(2, *ident())
    stranger = Process(*ident("127.0.0.1", "reuseport"))
    stranger.says("^ready")
    until(10, f"the stranger {stranger.pid} in status", lambda: named(stranger.pid))
    unharmed()
    code, out, _ = call(COMMAND, "status")
    check(code == 0 and str(stranger.pid) in out, "status does not name it:", out)
    # another copy joins behind it, and its end moves the kernel's array
    more = preloaded(*ident(), env={"SOCKSHARD_GROUP": group(PORT)["group"]})
    more.says("^ready")
    until_live(3, PORT)
    unharmed(3)
    stranger.end()
    more.end()
    until_live(2, PORT)
    unharmed(2)
    check(not group(PORT)["strangers"], "still a stranger:", status())
    stop(launcher, PORT)


@test(60, ALL)
def a_port_of_a_program_with_its_own_option_is_taken():
    # without us the copies would not get it either
    stranger = Process(*ident("127.0.0.1", "reuseport"))
    stranger.says("^ready")
    late = Process(COMMAND, "run", "-n", 2, "--", *ident())
    check(late.wait() == 1 and f"bind: {IN_USE}" in late.output(), late.output())
    check(tcp(PORT, b"?") == b"- %d\n" % stranger.pid)


main()
