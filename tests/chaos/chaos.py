#!/usr/bin/env python3
"""Shards are killed with -9 while clients connect: what the kernel had queued for a dead one is
answered by the others. The same with the plain option, to be seen beside."""

import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *
from programs import *

PORT = 8088
COPIES = 4
EVERY = 0.2  # seconds between kills
CLIENTS = 64
HTTP = {"mode": "http"}


def server(mode, *words, address="127.0.0.1"):
    return [helper("chaos/server"), address, PORT, mode, "work=5", *words], {"mode": "line"}


def slow_python():
    script = write(
        os.path.join(folder(), "server.py"),
        """import http.server, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.005)
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\\n")

    def log_message(self, *words):
        pass

class Server(http.server.HTTPServer):
    request_queue_size = 128

    def handle_error(self, *words):
        pass  # clients reset what they have read

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
""",
    )
    return [need("python3"), script, PORT], HTTP


def slow_nginx():
    """Its only pause: each process answers 200 in a second."""
    return nginx(PORT, "limit_req zone=all burst=1000;",
                 "limit_req_zone $server_port zone=all:1m rate=200r/s;", "/dev/null")


def slow_haproxy():
    return haproxy(PORT, "tcp-request inspect-delay 5ms\n    tcp-request content accept if WAIT_END")


def slow_redis():
    question = r"DEBUG SLEEP 0.005\r\nPING\r\nQUIT\r\n"
    return redis(PORT, "--enable-debug-command", "yes"), {
        "mode": "raw", "question": question, "ending": r"+OK\r\n+PONG\r\n+OK\r\n"}


SERVERS = {  # name: (how to start it, connections of the long form, of the short one; 0: none)
    "block": (lambda: server("block"), 12000, 1500),
    "poll_ipv6": (lambda: server("poll", "v6only", address="::"), 8000, 0),
    "select_dual_stack": (lambda: server("select", address="::"), 8000, 0),
    "level": (lambda: server("level", "accept=flags"), 12000, 0),
    "edge": (lambda: server("edge"), 12000, 1500),
    "exclusive": (lambda: server("exclusive"), 12000, 0),
    "oneshot": (lambda: server("oneshot"), 12000, 3000),
    "threads": (lambda: server("block", "threads=4"), 12000, 0),
    "defer": (lambda: server("block", "defer"), 8000, 1500),
    "device": (lambda: server("edge", "device=lo"), 8000, 0),
    "python": (slow_python, 8000, 1500),
    "node": (lambda: (node_http(PORT, 5), HTTP), 24000, 0),
    "nginx": (lambda: (slow_nginx(), HTTP), 12000, 2000),
    "haproxy": (lambda: (slow_haproxy(), HTTP), 60000, 0),
    "redis": (slow_redis, 8000, 0),
    "java": (lambda: (java_http(PORT, 5), HTTP), 8000, 0),
}

ADDRESSES = {"poll_ipv6": ("::1",), "select_dual_stack": ("127.0.0.1", "::1")}


def kill_while(load, pids):
    """A random one of pids() every 200 ms. Returns the deaths."""
    deaths = []
    while not load.over():
        time.sleep(EVERY)
        now = pids()
        if now and not load.over():
            deaths.append(Death(random.choice(now), PORT))
    return deaths


def kinds(failures):
    found = {}
    for f in failures:
        found[f["outcome"]] = found.get(f["outcome"], 0) + 1
    return found


def say(what, name, result, deaths, missing):
    own = sum(failed(result).values()) - len(missing)
    print(f"{what} {name}: {result['total']} connections, {len(deaths)} kills, {len(missing)} lost "
          f"{kinds(missing)}, {own} of the killed processes' own, p50 {result['p50_ms']} ms, "
          f"p99 {result['p99_ms']} ms, max {result['max_ms']} ms, {result['seconds']} s",
          flush=True)


def storm(name):
    """Under `run`: nothing lost, all four live and steered at the end. Returns row and loss."""
    start, long, short = SERVERS[name]
    argv, words = start()
    launcher = run(COPIES, *argv, seconds=60)
    until_live(COPIES, PORT)
    load = Load(PORT, total=pick(long, short), clients=CLIENTS,
                addresses=ADDRESSES.get(name, ("127.0.0.1",)), **words)
    deaths = kill_while(load, lambda: list(live_pids(PORT).values()))
    result = load.result()
    missing = lost(load.failures(), deaths)
    say("sockshard", name, result, deaths, missing)
    check(not missing, f"{len(missing)} connections lost: {missing[:5]}")
    check(deaths, "nobody was killed")
    given = sum(s["given"] for s in whole(PORT, COPIES)["slots"])
    stop(launcher, PORT)
    return result["total"], len(deaths), len(missing), given


def plain(name):
    """The option alone: each copy started again by us, as fast as it can be."""
    start, long, short = SERVERS[name]
    argv, words = start()
    env = {"SOCKSHARD_KEEPER": "off", "SOCKSHARD_POLICY": f"tcp/*:{PORT}"}
    copies = []

    def listens(copy):
        return copy.popen.poll() is None and any(
            state == 10 and inode in mine
            for mine in [socket_inodes(copy.pid)]
            for inode, (state, *_) in tcp_sockets().items()
        )

    def start_missing():
        copies[:] = [c for c in copies if c.popen.poll() is None]
        while len(copies) < COPIES:
            copies.append(preloaded(*argv, env=env))

    def listening():
        start_missing()
        return [c.pid for c in copies if listens(c)]

    start_missing()
    until(60, "all copies listen", lambda: len(listening()) == COPIES)
    load = Load(PORT, total=pick(long, short), clients=CLIENTS,
                addresses=ADDRESSES.get(name, ("127.0.0.1",)), **words)
    deaths = kill_while(load, listening)
    result = load.result()
    missing = lost(load.failures(), deaths)
    say("option alone", name, result, deaths, missing)
    for copy in copies:
        copy.end()
    return f"{len(missing)} ({len(deaths)} kills)"


def both(name):
    alone = "-"
    if not keeper_dies() and (LONG or name == "block"):
        alone = plain(name)
    total, kills, missing, given = storm(name)
    figure(f"killed every 200 ms: {name}", total, kills, missing, alone, f"{given} given")


for _name in SERVERS:
    if LONG or SERVERS[_name][2]:
        twice(pick(600, 60), name=_name)(lambda name=_name: both(name))


main()
