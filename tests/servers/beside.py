#!/usr/bin/env python3
"""The keeper is gone altogether, and its shards can neither notice nor be woken: UDP, and TCP servers that
accept by io_uring. A copy that is started anew joins beside them; nobody is steered, everybody is
served."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8095
HOST = "127.0.0.1"
COPIES = 3
URING = 77  # chaos/unseen: there is none


def ident(*words):
    return [helper("support/ident_server"), "udp", HOST, PORT, *words]


def rules(mode="balance", hold=60):
    return f"udp/*:{PORT}={mode},hold={hold}"


def pids_that_answer(n=150):
    return {int(udp(PORT).split()[1]) for _ in range(n)}


def copy(slot, *words, **env):
    ours = {"SOCKSHARD_SLOT": slot, "SOCKSHARD_POLICY": rules(), **env}
    return preloaded(*ident(*words), env=ours)


def copies(*words, **env):
    made = []
    for slot in range(COPIES):
        made.append(copy(slot, *words, **env))
        made[-1].says("^ready")
    until_live(COPIES, PORT, "udp")
    check(group(PORT, "udp")["steered"], status())
    return made


def end(process):
    process.signal(signal.SIGKILL)
    process.wait()


def started_anew_one_by_one(copies):
    """Each dies and is started again by its launcher; all serve all the time."""
    launcher = run(copies, *ident(), options=["-p", rules(), "-g", "web"])
    old = {slot: one["pid"] for slot, one in until_live(copies, PORT, "udp").items()}
    kill_keeper()
    until(20, "the next keeper", lambda: status()["keeper"])
    new = {}
    for slot in range(copies):
        os.kill(old[slot], signal.SIGKILL)
        new[slot] = until(20, "its successor", lambda: live(PORT, "udp").get(slot))["pid"]
        left = {old[s] for s in range(slot + 1, copies)}
        found = group(PORT, "udp")
        check({one["pid"] for one in found["strangers"]} == left, status())
        check(not left or not found["steered"], status())
        check(pids_that_answer() == left | set(new.values()), "not all serve:", status())
    check("in use" not in launcher.output(), launcher.output())
    return launcher


@test(60, ALL)
def four_udp_copies_of_a_launcher_are_started_anew():
    launcher = started_anew_one_by_one(4)
    stop(launcher)
    run(4, *ident(), options=["-p", rules(), "-g", "web"])
    until_live(4, PORT, "udp")
    check(group(PORT, "udp")["steered"], status())


@test(60, ALL)
def two_udp_copies_are_steered_again():
    """Who is alone for a moment has a place that is known."""
    launcher = started_anew_one_by_one(2)
    until(10, "a steered group", lambda: group(PORT, "udp")["steered"])
    sources = range(21000, 21200)
    first = {f: a[0] for f, a in flows(udp, PORT, sources, [HOST]).items()}
    launcher.signal(signal.SIGSTOP)
    os.kill(live(PORT, "udp")[1]["pid"], signal.SIGKILL)
    until(10, "its death noticed", lambda: 1 not in live(PORT, "udp"))
    gone = {f: a[0] for f, a in flows(udp, PORT, sources, [HOST]).items()}
    check(set(gone.values()) == {"0"}, "slots that answered:", set(gone.values()))
    launcher.signal(signal.SIGCONT)
    until_live(2, PORT, "udp")
    check({f: a[0] for f, a in flows(udp, PORT, sources, [HOST]).items()} == first, "flows moved")


@test(60, ALL)
def a_udp_copy_that_dies_beside_them_swallows_nothing():
    old = copies()
    kill_keeper()
    end(old[0])
    new = copy(0)
    new.says("^ready")
    check(live(PORT, "udp")[0]["pid"] == new.pid, status())
    end(new)
    until(10, "its end", lambda: not live(PORT, "udp"))
    # each from a socket and source port of its own; nothing is asked twice
    for _ in range(100):
        udp(PORT, tries=1)
    check(pids_that_answer() == {one.pid for one in old[1:]}, status())


@test(60, ALL)
def udp_servers_that_share_by_themselves_are_joined_beside_too():
    old = copies("reuseport")
    kill_keeper()
    new = copy(COPIES, "reuseport")
    new.says("^ready")
    check(not group(PORT, "udp")["steered"], status())
    check(pids_that_answer() == {new.pid, *(one.pid for one in old)}, status())


@test(60, ALL)
def who_is_of_another_group_is_refused():
    old = copies(SOCKSHARD_GROUP="mine")
    kill_keeper()
    for env in ({"SOCKSHARD_GROUP": "yours"}, {"SOCKSHARD_GROUP": None}):
        other = copy(0, **env)
        check(other.wait() == 1 and "Address already in use" in other.output(), env, other.output())
    foreign = Process(*ident())
    check(foreign.wait() == 1, foreign.output())
    new = copy(0, SOCKSHARD_GROUP="mine")
    new.says("^ready")
    check(pids_that_answer() == {new.pid, *(one.pid for one in old)}, status())


@test(60, ALL)
def the_newest_of_handover_has_all():
    old = copies(SOCKSHARD_POLICY=rules("handover"))
    check(pids_that_answer() == {old[-1].pid}, status())
    kill_keeper()
    new = copy(0, SOCKSHARD_POLICY=rules("handover"))
    new.says("^ready")
    check(group(PORT, "udp")["steered"] and pids_that_answer() == {new.pid}, status())


@test(60, ALL)
def tcp_copies_that_accept_by_io_uring():
    argv = [helper("chaos/unseen"), HOST, PORT, "uring", 0]
    env = {"SOCKSHARD_POLICY": f"{PORT},hold=60"}
    old = [preloaded(*argv, env={**env, "SOCKSHARD_SLOT": slot}) for slot in range(COPIES)]
    time.sleep(0.2)
    if any(one.popen.poll() == URING for one in old):
        skip("no io_uring here")
    until_live(COPIES, PORT)
    kill_keeper()
    end(old[0])
    new = preloaded(*argv, env={**env, "SOCKSHARD_SLOT": 0})
    until(10, "it is live", lambda: live(PORT).get(0, {}).get("pid") == new.pid)
    answers = {int(tcp(PORT, b"?\n").split()[-1]) for _ in range(100)}
    check(answers == {new.pid, *(one.pid for one in old[1:])}, answers, status())
    check(not any("nudged" in one.output() for one in [new, *old]), "a knock was taken for a client")


main()
