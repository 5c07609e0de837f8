#!/usr/bin/env python3
"""Mode shared: N copies of real servers accept from one queue; what waits in it survives all of them."""

import os
import re
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *
from programs import *

PORT = 8080
COPIES = 4
CONNECTIONS = 1000
GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"


def shared(*argv, n=COPIES, policy=f"{PORT}=shared", **more):
    launcher = run(n, *argv, options=["-p", policy], **more)
    until_live(n, PORT)
    return launcher


def listening_sockets(port=PORT):
    return {inode for inode, (kind, here, *_) in tcp_sockets().items()
            if kind == 10 and int(here.rpartition(":")[2], 16) == port}


def udp_sockets():
    with open("/proc/net/udp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{PORT:04X}")}


def accepted():
    return sum(s["accepted"] for s in group(PORT)["slots"])


def one_queue(*argv, question=GET, answer=b"HTTP/1.", ending=b"", **more):
    """One listening socket, held by every copy; every connection is answered."""
    launcher = shared(*argv, **more)
    inodes = listening_sockets()
    check(len(inodes) == 1, "listening sockets:", inodes)
    for slot in live(PORT).values():
        check(inodes <= socket_inodes(slot["pid"]), "a copy has another socket:", status())
    before = accepted()
    for _ in range(CONNECTIONS):
        got = tcp(PORT, question, ending=ending)
        check(got.startswith(answer) and got.endswith(ending), "answered", got)
    check(accepted() - before == CONNECTIONS, "counted:", accepted() - before)
    entry = group(PORT)
    check(entry["mode"] == "shared" and not entry["strangers"], entry)
    check(not entry["steered"], "there is nothing to choose:", entry)
    stop(launcher, PORT)


def local_redis():
    return redis(PORT, "--bind", "127.0.0.1")


def ident(kind="tcp"):
    return [helper("support/ident_server"), kind, "127.0.0.1", PORT]


@test(120, ALL)
def python_http_server():
    one_queue(*python_http(PORT), ending=b"hello\n")


@test(120, ALL)
def redis_server():
    one_queue(*local_redis(), question=b"PING\r\n", answer=b"+PONG", ending=b"\r\n")


@test(120, ALL)
def node_http_server():
    one_queue(*node_http(PORT))


@test(120, ALL)
def a_waiting_connection_is_served_by_whoever_lives():
    launcher = shared(*local_redis())
    pids = [s["pid"] for s in live(PORT).values()]
    for pid in pids:
        freeze(pid)
    waiting = [socket.create_connection(("127.0.0.1", PORT), 20) for _ in range(50)]
    for pid in pids[1:]:
        os.kill(pid, signal.SIGKILL)
    os.kill(pids[0], signal.SIGCONT)
    for client in waiting:
        client.sendall(b"PING\r\n")
        check(client.recv(64) == b"+PONG\r\n", "no answer")
        client.close()
    until_live(COPIES, PORT)
    check(len(listening_sockets()) == 1, "listening sockets:", listening_sockets())
    check(group(PORT)["lost"] == 0, status())
    stop(launcher, PORT)


@test(120, ALL)
def the_queue_survives_all_copies_and_the_keepers_worker():
    launcher = shared(*local_redis())
    pids = [s["pid"] for s in live(PORT).values()]
    for pid in pids:
        freeze(pid)
    waiting = [socket.create_connection(("127.0.0.1", PORT), 20) for _ in range(50)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    os.kill(status()["keeper"]["pid"], signal.SIGKILL)
    for client in waiting:
        client.sendall(b"PING\r\n")
        check(client.recv(64) == b"+PONG\r\n", "no answer")
        client.close()
    until_live(COPIES, PORT)
    check(group(PORT)["lost"] == 0, status())
    check(sum(s["given"] for s in group(PORT)["slots"]) == 0, "there is one queue:", status())
    stop(launcher, PORT)


@test(60, ALL)
def a_copy_that_dies_leaves_no_slot_behind():
    env = {"SOCKSHARD_POLICY": f"{PORT}=shared,hold=60"}
    copies = [preloaded(*ident(), env=env) for _ in range(3)]
    until_live(3, PORT)
    while len(copies) > 1:
        copies.pop().popen.kill()
        pids = {copy.pid for copy in copies}
        until(10, "one slot less", lambda: {s["pid"] for s in group(PORT)["slots"]} == pids)
        check(int(tcp(PORT, b"?").split()[1]) in pids, "who answered?")
    copies[0].popen.kill()  # the last one's socket is held for the next one
    until(10, "an orphan", lambda: [s["state"] for s in group(PORT)["slots"]] == ["orphan"])


@test(120, ALL)
def the_next_keeper_finds_the_socket_of_all():
    launcher = shared(*local_redis())
    keeper = status()["keeper"]
    before = listening_sockets()
    for name in ("vault", "pid"):
        freeze(keeper[name])
    for name in ("vault", "pid"):
        os.kill(keeper[name], signal.SIGKILL)
    for _ in range(400):
        check(tcp(PORT, b"PING\r\n", ending=b"\r\n") == b"+PONG\r\n", "no answer")
        if len(live(PORT)) == COPIES:
            break
    until_live(COPIES, PORT)
    victim = live(PORT)[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    until(20, "the next of slot 0",
          lambda: live(PORT).get(0, {"pid": victim})["pid"] != victim)
    until_live(COPIES, PORT)
    check(listening_sockets() == before, "another socket:", listening_sockets(), before)
    stop(launcher, PORT)


@test(60, ALL)
def udp_copies_have_one_socket():
    launcher = run(COPIES, *ident("udp"), options=["-p", f"udp/{PORT}=shared"])
    until_live(COPIES, PORT, "udp")
    answers = {udp(PORT).split()[1] for _ in range(200)}
    pids = {str(s["pid"]).encode() for s in live(PORT, "udp").values()}
    check(answers <= pids, "strangers answer:", answers, pids)
    before = udp_sockets()
    check(len(before) == 1, "sockets:", before)
    for pid in sorted(pids)[1:]:
        os.kill(int(pid), signal.SIGKILL)
    for _ in range(50):
        udp(PORT)
    until_live(COPIES, PORT, "udp")
    check(udp_sockets() == before, "another socket:", udp_sockets(), before)
    launcher.signal(signal.SIGTERM)
    check(launcher.wait(30) == 0, launcher.output())


SHUTS_DOWN = f"""
import os, socket, struct, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if os.environ["SOCKSHARD_SLOT"] == "1" and "odd" in sys.argv:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
if os.environ["SOCKSHARD_SLOT"] == "1" and "key" in sys.argv:  # for 127.0.0.9, tcp(7)
    peer = struct.pack("=H2x4s", socket.AF_INET, socket.inet_aton("127.0.0.9")).ljust(128, b"\\0")
    s.setsockopt(socket.IPPROTO_TCP, 14, peer + struct.pack("=BBHi80s", 0, 0, 6, 0, b"secret"))
s.bind(("127.0.0.1", {PORT}))
s.listen(64)
while True:
    c, _ = s.accept()
    word = c.recv(64)
    c.sendall(str(os.getpid()).encode() + b"\\n")
    c.close()
    if word == b"shut":
        s.shutdown(socket.SHUT_RDWR)
        try:
            s.accept()
        except OSError as error:
            print("accept:", error.errno, flush=True)
        s.listen(64)
"""


@test(60, ALL)
def a_copy_that_shuts_its_listener_down_ends_nobody_elses():
    script = write(os.path.join(folder(), "server.py"), SHUTS_DOWN)
    launcher = shared(need("python3"), script, n=2)
    said = 0
    for _ in range(20):
        check(tcp(PORT, b"shut", ending=b"\n"), "no answer")
        said += 1
        until(10, "EINVAL", lambda: len(re.findall(r"accept: 22\b", launcher.output())) == said)
        check(tcp(PORT, b"?", ending=b"\n"), "no answer")
    until_live(2, PORT)
    check(len(listening_sockets()) == 1, "listening sockets:", listening_sockets())
    stop(launcher, PORT)


def difference_is_said(habit, words):
    script = write(os.path.join(folder(), "server.py"), SHUTS_DOWN)
    with_log = {"SOCKSHARD_LOG": "warn:" + os.path.join(folder(), "log")}
    launcher = shared(need("python3"), script, habit, n=2, env=with_log)
    with open(with_log["SOCKSHARD_LOG"].partition(":")[2]) as file:
        said = file.read()
    check(f"has another {words}" in said, f"nothing about {words}:", said)
    stop(launcher, PORT)


test(60, ALL, "options_that_differ_are_said")(lambda: difference_is_said("odd", "SO_KEEPALIVE"))
test(60, ALL, "a_key_that_the_socket_of_all_lacks_is_said")(lambda: difference_is_said("key", "TCP_MD5SIG"))


main()
