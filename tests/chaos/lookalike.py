#!/usr/bin/env python3
"""Clients that look like nudges are clients. A server whose accepts nobody sees gets no nudge, and
loses nothing that it would not lose without us."""

import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *

PORT = 8082
COPIES = 4


def nudges(keeper):
    """(address, port) of the keeper's own ends of its nudges"""
    mine, found = socket_inodes(keeper), set()
    for inode, (_, local, remote, _) in tcp_sockets().items():
        if inode in mine and remote.endswith(f":{PORT:04X}"):
            found.add(int(local.split(":")[1], 16))
    return found


@test(60)
def the_same_port_of_another_address():
    """All live ones stand still with nudges in their queues; clients come from those ports."""
    launcher = run(COPIES, helper("chaos/server"), "0.0.0.0", PORT, "level")
    pids = {s: m["pid"] for s, m in until_live(COPIES, PORT).items()}
    waiting = wait_in_queue(0, 40, lambda: Client(PORT), PORT)
    for slot in (1, 2, 3):
        freeze_all(pids[slot])
    launcher.signal(signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    ports = until(10, "nudges", lambda: nudges(status()["keeper"]["pid"]))
    alike = [Client(PORT, source=(f"127.0.0.{n}", port)) for port in ports for n in (2, 3)]
    other = [Client(PORT, "127.0.0.4", source=("127.0.0.1", port)) for port in ports
             if _can_bind(port)]
    print(f"{len(ports)} nudges, {len(alike) + len(other)} clients of the same ports")
    for slot in (1, 2, 3):
        os.kill(pids[slot], signal.SIGCONT)
    answers(alike + other + waiting)
    found = group(PORT)
    figure("clients of the nudges' ports, other addresses", len(alike + other), 1, 0,
           note=f"beside {len(ports)} nudges; {len(waiting)} given")
    check(sum(s["given"] for s in found["slots"]) == len(waiting), found)
    check(found["lost"] == 0, found)
    launcher.signal(signal.SIGCONT)
    until_live(COPIES, PORT)
    stop(launcher, PORT)


def _can_bind(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@twice(pick(180, 60))
def clients_while_nudges_run():
    """One of four is killed again and again; clients of another address come from every port."""
    launcher = run(COPIES, helper("chaos/server"), "0.0.0.0", PORT, "edge", "work=1")
    until_live(COPIES, PORT)
    load = Load(PORT, total=pick(50000, 4000), clients=48, addresses=("127.0.0.1", "127.0.0.2"))
    deaths = []
    while not load.over():
        time.sleep(0.2)
        now = list(live_pids(PORT).values())
        if now and not load.over():
            deaths.append(Death(random.choice(now), PORT))
    result, missing = load.result(), lost(load.failures(), deaths)
    check(deaths and not missing, f"{len(missing)} lost: {missing[:5]}")
    given = sum(s["given"] for s in whole(PORT, COPIES)["slots"])
    figure("clients while nudges run", result["total"], len(deaths), 0, note=f"{given} given")
    stop(launcher, PORT)


class Loss:
    """Four copies killed at random under load, and what that lost."""

    def __init__(self, kind, env):
        argv = [helper("chaos/unseen"), "127.0.0.1", PORT, kind, 5]
        if env:
            started = [preloaded(*argv, env=env) for _ in range(COPIES)]
            for copy in started:
                copy.says("^ready")
            pids = lambda: [c.pid for c in started if c.popen.poll() is None]
        else:
            started = [run(COPIES, *argv)]
            until_live(COPIES, PORT)
            pids = lambda: list(live_pids(PORT).values())
        load = Load(PORT, total=8000, clients=64, timeout_ms=20000)
        deaths = []
        while not load.over():
            time.sleep(0.2)
            now = pids()
            if now and not load.over():
                deaths.append(Death(random.choice(now), PORT))
                if env:
                    started.append(preloaded(*argv, env=env))
        self.result, missing = load.result(), lost(load.failures(), deaths)
        self.group = group(PORT)
        for process in started:
            check("nudged" not in process.output(), "a nudge was taken for a client")
            process.end()
        self.kills, self.lost = len(deaths), len(missing)
        self.waited = sum(d.queued for d in deaths)  # at the killed ones
        self.late = sum(not any(f["begin"] <= d.killed <= f["end"] for d in deaths) for f in missing)

    def __str__(self):
        return (f"{self.lost} lost with {self.kills} kills, {self.waited} waited at the killed, "
                f"{self.late} came after a death")


def accepts_nobody_sees(kind):
    """Lost is what waited at the killed ones, as without us (how long their queues were is luck), and
    what came to a dead one's socket before its buckets were moved."""
    alone = Loss(kind, {"SOCKSHARD_KEEPER": "off", "SOCKSHARD_POLICY": f"tcp/*:{PORT}"})
    ours = Loss(kind, None)
    print(f"{kind}: {ours}; the option alone: {alone}; {ours.result}; {ours.group}")
    check(ours.result["wrong"] == 0, ours.result)
    given = sum(s["given"] for s in ours.group["slots"])
    check(given == 0, "given to a server whose accepts nobody sees:", ours.group)
    # some more come between our look at a queue and the kill
    check(ours.lost - ours.late <= 1.5 * ours.waited + 2 * ours.kills, ours)
    check(ours.late <= ours.waited, ours)
    figure(f"accepts nobody sees: {kind}", ours.result["total"], ours.kills, ours.lost,
           f"{alone.lost} ({alone.kills} kills)",
           f"{ours.waited} waited at the killed (alone: {alone.waited}), {ours.late} came after a "
           f"death (alone: {alone.late}); no nudge")


@test(60)
def no_nudge_where_no_accept_was_seen():
    """It was never counted, and one connection that somebody holds is enough to know."""
    launcher = run(COPIES, helper("chaos/unseen"), "127.0.0.1", PORT, "raw")
    pids = {s: m["pid"] for s, m in until_live(COPIES, PORT).items()}
    waiting = wait_in_queue(0, 12, lambda: Client(PORT), PORT)
    silent = [Client(PORT, speak=False) for _ in range(20)]
    until(10, "one that is held", lambda: any(accepted_by(pids[s], PORT) for s in (1, 2, 3)))
    launcher.signal(signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    until(10, "an orphan", lambda: any(s["state"] == "orphan" for s in group(PORT)["slots"]))
    for client in silent:
        client.socket.close()
    answers([Client(PORT) for _ in range(40)])  # and whatever stood in the queues before them
    check("nudged" not in launcher.output(), "a nudge was taken for a client")
    check(sum(s["given"] for s in group(PORT)["slots"]) == 0, group(PORT))
    launcher.signal(signal.SIGCONT)
    until_live(COPIES, PORT)
    print(f"{len(waiting)} waited at the dead one")
    stop(launcher, PORT)


def held_connection(host, listening):
    """Somebody else's connection of the port; and its listener, or not any more."""
    listener = socket.create_server((host, PORT))
    client = socket.create_connection((host, PORT), 5)
    kept = [client, listener.accept()[0]]
    if listening:
        return kept + [listener]
    listener.close()
    return kept


@test(30)
def connections_of_others_do_not_tell_that_nobody_is_heard():
    """Of another address of the port, and of who had the address before. Nobody has accepted yet."""
    kept = held_connection("127.0.0.1", False)
    started = []
    for slot in (0, 1):
        started.append(preloaded(helper("chaos/server"), "127.0.0.1", PORT, "block",
                                 env={"SOCKSHARD_SLOT": slot,
                                      "SOCKSHARD_POLICY": f"{PORT}=balance,hold=60"}))
        started[slot].says("^ready")
        if slot == 0:
            freeze_all(started[0].pid)
            kept += held_connection("127.0.0.2", True)
            waiting = [Client(PORT) for _ in range(3)]
    os.kill(started[0].pid, signal.SIGKILL)
    answers(waiting)
    found = group(PORT)
    check(sum(s["given"] for s in found["slots"]) == 3, found)
    for end in kept + started[1:]:
        end.close() if isinstance(end, socket.socket) else end.end()


if LONG:  # what is lost is to be enough to compare

    @test(300)
    def accepts_by_system_calls_of_its_own():
        accepts_nobody_sees("raw")

    @test(300)
    def accepts_by_io_uring():
        accepts_nobody_sees("uring")


main()
