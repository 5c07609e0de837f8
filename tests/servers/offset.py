#!/usr/bin/env python3
"""The mode offset, with real servers: a side port for each copy, and all that can be in its way."""

import os
import re
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from programs import *

PORT = 8080
SIDE = 9100
GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"

# A main port, and a side port that tells who it is and which name its socket has.
TWO_PORTS = """
import http.server, os, sys, threading
class Main(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.say().encode())
    def say(self):
        return "main"
    def log_message(self, *_):
        pass
class Side(Main):
    def say(self):
        return "%d %d" % (os.getpid(), self.server.socket.getsockname()[1])
ports = [int(word) for word in sys.argv[1:]]
side = http.server.HTTPServer(("127.0.0.1", ports[1]), Side)
main = http.server.HTTPServer(("127.0.0.1", ports[0]), Main)
threading.Thread(target=side.serve_forever, daemon=True).start()
main.serve_forever()
"""


def two_ports(side=SIDE):
    return [need("python3"), "-c", TWO_PORTS, PORT, side]


def body(port):
    got = tcp(port, GET, ending=b"")
    check(b"\r\n\r\n" in got, f"port {port} answered {got!r}")
    return got.partition(b"\r\n\r\n")[2].decode().strip()


def side(port):
    """pid and port as the side port tells them; None while nobody is there"""
    try:
        return tuple(int(word) for word in body(port).split())
    except OSError:
        return None


@test(60, ALL)
def each_copy_answers_on_a_side_port_of_its_own():
    launcher = run(4, *two_ports(), options=["-p", f"{PORT};{SIDE}=offset"])
    pids = {slot: entry["pid"] for slot, entry in until_live(4, PORT).items()}
    for slot in range(4):
        said = until(5, f"port {SIDE + slot}", lambda: side(SIDE + slot))
        check(said == (pids[slot], SIDE + slot), f"port {SIDE + slot} of {pids}: {said}")
    check(refuses(SIDE + 4) and body(PORT) == "main", "ports")
    check(group(SIDE) is None and len(status()["groups"]) == 1, status())
    stop(launcher, PORT, *range(SIDE, SIDE + 4))


@test(60)
def a_copy_that_is_killed_comes_back_to_its_side_port():
    launcher = run(4, *two_ports(), options=["-p", f"{PORT};{SIDE}=offset"])
    before = {slot: entry["pid"] for slot, entry in until_live(4, PORT).items()}
    until(5, "its side port", lambda: side(SIDE + 2))
    for _ in range(3):
        old = live(PORT)[2]["pid"]
        body(SIDE + 2)  # leaves a connection in TIME_WAIT: the server sets SO_REUSEADDR itself
        os.kill(old, signal.SIGKILL)
        new = until(10, "slot 2 again", lambda: live(PORT).get(2, {"pid": old})["pid"] != old
                    and live(PORT)[2]["pid"])
        said = until(5, "its side port", lambda: side(SIDE + 2))
        check(said == (new, SIDE + 2), said)
    check(side(SIDE + 1) == (before[1], SIDE + 1), "slot 1 was disturbed")
    stop(launcher, PORT)


@test(60)
def haproxy_has_a_statistics_port_for_each_copy():
    statistics = f"listen stats\n    bind 127.0.0.1:{SIDE}\n    stats enable\n    stats uri /"
    launcher = run(4, *haproxy(PORT, more=statistics), options=["-p", f"{PORT};{SIDE}=offset"])
    pids = {slot: entry["pid"] for slot, entry in until_live(4, PORT).items()}
    for slot in range(4):
        page = body(SIDE + slot)
        check(re.search(rf"pid\s*=\s*</b>\s*{pids[slot]}\b", page), slot, pids, page[:2000])
    check(body(PORT) == "hello", "the main port")
    stop(launcher, PORT, *range(SIDE, SIDE + 4))


@test(60)
def nginx_has_a_side_port_for_each_copy():
    with_side_port = nginx(PORT, http=f'server {{ listen {SIDE}; return 200 "$pid\\n"; }}')
    launcher = run(4, *with_side_port, options=["-p", f"{PORT};{SIDE}=offset"])
    pids = {slot: entry["pid"] for slot, entry in until_live(4, PORT).items()}
    for slot in range(4):
        check(body(SIDE + slot) == str(pids[slot]), slot, pids, body(SIDE + slot))
    stop(launcher, PORT, *range(SIDE, SIDE + 4))


@test(60)
def udp_ports_are_offset_too():
    udp_server = [helper("support/ident_server"), "udp", "127.0.0.1", SIDE]
    copies = [preloaded(*udp_server, env={"SOCKSHARD_POLICY": f"udp/{SIDE}=offset",
                                          "SOCKSHARD_SLOT": slot}) for slot in (None, 1, 5)]
    for copy, slot in zip(copies, (0, 1, 5)):
        got = until(20, "an answer", lambda: answer_of_udp(SIDE + slot))
        check(int(got.split()[1]) == copy.pid, slot, got)
    check(not status()["groups"], "nobody is asked:", status())


def answer_of_udp(port):
    try:
        return udp(port, tries=1)
    except (OSError, Failure):  # nobody is there yet
        return None


BIND = """
import errno, socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET,
                  socket.SOCK_DGRAM if sys.argv[3:] else socket.SOCK_STREAM)
try:
    s.bind((sys.argv[1], int(sys.argv[2])))
    print("bound", s.getsockname()[1])
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def binds(address, port, *words, slot, policy):
    code, out, err = call(need("python3"), "-c", BIND, address, port, *words,
                          env={"LD_PRELOAD": LIBRARY, "SOCKSHARD_POLICY": policy,
                               "SOCKSHARD_SLOT": str(slot)})
    check(code == 0, code, out, err)
    return out.strip(), err


@test(30, ALL)
def a_port_that_cannot_be_had_is_told_with_what_it_came_from():
    taken = socket.socket()
    taken.bind(("127.0.0.1", SIDE + 3))
    said, err = binds("127.0.0.1", SIDE, slot=3, policy=f"{SIDE}=offset")
    check(said == "EADDRINUSE", said)
    check(f"port {SIDE + 3} ({SIDE} + slot 3, offset) is in use" in err, err)
    for address, words in (("127.0.0.1", ()), ("::1", ()), ("127.0.0.1", ("udp",))):
        said, err = binds(address, 65534, *words, slot=3, policy="*/*:65534=offset")
        check(said == "EADDRNOTAVAIL", said)
        check("port 65534 + slot 3, offset, is 65537, past 65535" in err, err)
        said, err = binds(address, 65534, *words, slot=1, policy="*/*:65534=offset")
        check(said == "bound 65535" and not err, said, err)
    said, err = binds("127.0.0.1", SIDE + 1, slot=7, policy=f"{SIDE}-{SIDE + 9}=offset")
    check(said == f"bound {SIDE + 8}", said)
    said, err = binds("127.0.0.1", 0, slot=7, policy="*=offset")
    check(said.startswith("bound ") and not err, said, err)  # port 0 is never touched


@test(60)
def a_copy_whose_side_port_is_taken_stops_the_first_start():
    taken = socket.socket()
    taken.bind(("127.0.0.1", SIDE + 3))
    launcher = Process(COMMAND, "run", "-n", 4, "-p", f"{PORT};{SIDE}=offset", "--", *two_ports())
    check(launcher.wait() == 1, launcher.output())
    check(f"port {SIDE + 3} ({SIDE} + slot 3, offset) is in use" in launcher.output(),
          launcher.output())


def refused(policy, n, *words, options=()):
    code, out, err = call(COMMAND, "run", "-n", n, "-p", policy, *options, "--", need("python3"),
                          "-c", "print('started')")
    check(code == 64 and "started" not in out, code, out, err)
    for word in words:
        check(word in err, f"{word!r} is not in {err!r}")


@test(60, ALL)
def run_refuses_a_policy_whose_offsets_run_into_something():
    refused(f"{SIDE}=offset;{SIDE + 2}", 4, f"-p: column 1: port {SIDE} + slot 2, offset, is "
            f"{SIDE + 2}, a port of the rule at column 13 (tcp, any address, port {SIDE + 2})")
    refused("65534=offset", 4, "port 65534 + slot 2, offset, is 65536, past 65535")
    refused(f"{SIDE}=offset;{SIDE + 1}=offset", 2, f"port {SIDE} + slot 1, offset, is {SIDE + 1}, "
            f"and so is {SIDE + 1} + slot 0 of the rule at column 13")
    code, out, err = call(COMMAND, "check", "-p", f"{SIDE}=offset;{SIDE + 2};*/*:53=handover")
    check(code == 0, code, out, err)
    check(f"room for 2 copies: port {SIDE} + slot 2, offset, is {SIDE + 2}, a port of" in out, out)
    check("handover, the newest shard gets all new connections" in out, out)


@test(60)
def the_second_launcher_of_a_group_has_the_next_ports():
    named = ["-g", "both", "-p", f"{PORT};{SIDE}=offset;{SIDE + 6}=offset"]
    first = run(3, *two_ports(), options=named)
    second = run(2, *two_ports(), options=named)
    slots = until_live(5, PORT)
    for slot in range(5):
        said = until(5, "its side port", lambda: side(SIDE + slot))
        check(said == (slots[slot]["pid"], SIDE + slot), slot, slots, said)
    refused(f"{PORT};{SIDE}=offset;{SIDE + 6}", 2, f"port {SIDE} + slot 6, offset, is {SIDE + 6}",
            options=["-g", "both"])
    stop(second)
    stop(first, PORT)


@test(60)
def a_server_that_shares_nothing_is_supervised_all_the_same():
    launcher = Process(COMMAND, "run", "-n", 2, "-p", f"{PORT}=offset;{SIDE}=offset", "--", *two_ports())
    for slot in range(2):
        until(10, "both ports", lambda: side(SIDE + slot) and not refuses(PORT + slot))
    old = side(SIDE + 1)
    time.sleep(1)  # SETTLED_MS of run_supervise.c: nobody tells when it listens
    os.kill(old[0], signal.SIGKILL)
    until(10, "another one", lambda: side(SIDE + 1) not in (None, old))
    stop(launcher, PORT, SIDE, SIDE + 1)


main()
