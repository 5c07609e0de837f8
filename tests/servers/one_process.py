#!/usr/bin/env python3
"""The keeper that is one process: on a Linux without pidfds (before 5.3), and where a fork that shares
the descriptor table is refused. It does all that two do; killed, it is gone, and the next one takes
over from the shards. By a seccomp filter (old_kernel.c)."""

import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8075
HOST = "127.0.0.1"
NAME = "sockshard-one"
SOURCES = range(21000, 21400)
WITHOUT = {"pidfds": [], "shared_fork": ["-c"]}
SAID = {"pidfds": "pidfd_open: Function not implemented",
        "shared_fork": "clone: Operation not permitted"}


def without(what, *argv):
    return [helper("support/old_kernel"), *WITHOUT[what], *argv]


def keeper(what):
    """By hand; everybody uses it. It says once that it is alone."""
    os.environ["SOCKSHARD_KEEPER"] = NAME
    made = Process(*without(what, COMMAND, "keeper", "--foreground", "--name", NAME))
    made.says(f"{SAID[what]}: one process instead of two")
    until(10, "a keeper", lambda: status()["keeper"])
    check(status()["keeper"]["vault"] is None, status())
    return made


def launch(what, n, *argv, options=()):
    launcher = Process(*without(what, COMMAND, "run", "-n", n, *options, "--", *argv))
    launcher.says(rf"\b{n} of {n} copies listen")
    until_live(n, PORT)
    return launcher


def ident():
    return [helper("support/ident_server"), "tcp", HOST, PORT, "epoll"]


def asked(sources=SOURCES):
    return {flow: answer[0] for flow, answer in flows(tcp, PORT, sources, [HOST]).items()}


def prefork():
    return [helper("preload/prefork"), PORT, "epoll", 3]


def both(limit, function):
    for what in WITHOUT:
        test(limit, ALL, f"{function.__name__}_without_{what}")(lambda what=what: function(what))


def share_give_and_stop(what):
    """Three copies; one dies with connections in its queue and comes back; all stop."""
    one = keeper(what)
    launcher = launch(what, 3, *ident())
    check(group(PORT)["steered"], status())
    first = asked()
    check(set(first.values()) == {"0", "1", "2"}, set(first.values()))

    victim = live(PORT)[1]["pid"]
    freeze(victim)
    waiting = []
    while live(PORT)[1]["queue"] < 5:
        check(len(waiting) < 200, "nothing goes to the stopped one")
        waiting.append(socket.create_connection((HOST, PORT), 20))
        waiting[-1].sendall(b"?")
    launcher.signal(signal.SIGSTOP)
    os.kill(victim, signal.SIGKILL)
    until(10, "its death noticed", lambda: 1 not in live(PORT))
    for client in waiting:
        check(client.recv(100).endswith(b"\n"), "a connection was lost")
        client.close()
    gone = asked()
    moved = [f for f in first if first[f] != "1" and gone[f] != first[f]]
    check(not moved and "1" not in gone.values(), f"{len(moved)} of the survivors' flows moved")
    launcher.signal(signal.SIGCONT)
    until_live(3, PORT)
    check(asked() == first, "after its return flows are elsewhere")
    given = sum(slot["given"] for slot in group(PORT)["slots"])
    check(given == 5 and group(PORT)["lost"] == 0, status())
    print(f"{len(waiting)} asked, 5 of them waited in the killed one")

    code, out, err = call(*without(what, COMMAND, "stop"))
    check(code == 0 and not out and not err, code, out, err)
    check(launcher.wait() == 0 and ended(launcher.pid), launcher.output())
    check(refuses(PORT) and not status()["groups"], status())
    one.signal(signal.SIGTERM)
    check(one.wait() == 0 and one.output().count("\n") == 1, one.output())


def killed_and_followed(what):
    """No flow moves, and the next one, that the launcher starts, is one process, too."""
    one = keeper(what)
    launch(what, 4, *ident())
    first = asked()
    one.signal(signal.SIGKILL)
    one.wait()
    # the launcher restarts it; each shard finds it at its next connection
    until(20, "the next keeper", lambda: status()["keeper"])
    check(asked() == first, "flows moved")
    until_live(4, PORT)
    check(group(PORT)["steered"] and not group(PORT)["strangers"], status())
    check(status()["keeper"]["pid"] != one.pid and status()["keeper"]["vault"] is None, status())
    check(asked() == first, "flows moved when the shards were back")
    os.kill(live(PORT)[2]["pid"], signal.SIGKILL)
    until(20, "another in slot 2", lambda: live(PORT).get(2, {}).get("generation") == 2)
    check(asked() == first, "flows moved after a restart")


def workers_of_one_socket(what):
    """Each forked worker has one of its own, and the next worker gets the dead one's slot."""
    keeper(what)
    server = Process(*without(what, *prefork()),
                     env={"LD_PRELOAD": LIBRARY, "SOCKSHARD_POLICY": f"{PORT},hold=1"})
    server.says("^ready")
    until_live(3, PORT)
    check(group(PORT)["steered"], status())
    before = {slot: one["pid"] for slot, one in live(PORT).items()}
    os.kill(before[2], signal.SIGKILL)
    until(20, "its successor", lambda: len(live(PORT)) == 3 and
          before[2] not in {one["pid"] for one in live(PORT).values()})
    check(group(PORT)["lost"] == 0 and group(PORT)["steered"], status())
    server.signal(signal.SIGTERM)
    server.wait()
    until(10, "nothing held", lambda: not status()["groups"])


both(60, share_give_and_stop)
both(60, killed_and_followed)
both(60, workers_of_one_socket)


@test(60, ALL)
def a_keeper_started_by_a_server_is_one_process_too():
    copies = [Process(*without("shared_fork", *ident()), env={"LD_PRELOAD": LIBRARY}) for _ in range(2)]
    for copy in copies:
        copy.says("^ready")
    until_live(2, PORT)
    check(group(PORT)["steered"] and status()["keeper"]["vault"] is None, status())
    copies[0].signal(signal.SIGKILL)
    copies[0].wait()
    until(10, "its death noticed", lambda: len(live(PORT)) == 1)
    answers = {tcp(PORT, b"?").split()[1] for _ in range(50)}
    check(answers == {str(copies[1].pid).encode()}, "answers came from", answers)


main()
