#!/usr/bin/env python3
"""Shards are killed with -9 while clients connect: what the kernel had queued for a dead one is
answered by the others. The same with the plain option, to be seen beside."""

import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *

PORT = 8088
COPIES = 4
EVERY = 0.2  # seconds between kills
CLIENTS = 64


def server(mode, *words, address="127.0.0.1"):
    return [helper("chaos/server"), address, PORT, mode, "work=5", *words], {"mode": "line"}


def python_http():
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
    return [need("python3"), script, PORT], {"mode": "http"}


def node():
    script = write(
        os.path.join(folder(), "server.js"),
        "require('http').createServer((q, a) => setTimeout(() => a.end('hello\\n'), 5))"
        ".listen(+process.argv[2]);\n",
    )
    return [need("node"), script, PORT], {"mode": "http"}


def nginx():
    """Its only pause: each process answers 200 in a second."""
    where = folder()
    write(os.path.join(where, "index.html"), "hello\n")
    config = write(
        os.path.join(where, "nginx.conf"),
        f"""daemon off; master_process off; user root root; pid {where}/pid; error_log /dev/null;
        events {{ }}
        http {{
            access_log off; limit_req_zone $server_port zone=all:1m rate=200r/s;
            client_body_temp_path {where}/body; proxy_temp_path {where}/proxy;
            fastcgi_temp_path {where}/fastcgi; uwsgi_temp_path {where}/uwsgi;
            scgi_temp_path {where}/scgi;
            server {{ listen {PORT}; root {where}; limit_req zone=all burst=1000; }}
        }}
        """,
    )
    return [need("nginx"), "-e", "stderr", "-p", where, "-c", config], {"mode": "http"}


def haproxy():
    config = write(
        os.path.join(folder(), "haproxy.cfg"),
        f"""global
    nbthread 1
defaults
    mode http
    timeout client 20s
    timeout connect 5s
    timeout server 20s
frontend hello
    bind 127.0.0.1:{PORT}
    tcp-request inspect-delay 5ms
    tcp-request content accept if WAIT_END
    http-request return status 200 content-type text/plain string "hello"
""",
    )
    return [need("haproxy"), "-db", "-f", config], {"mode": "http"}


def redis():
    argv = [
        need("redis-server"), "--port", PORT, "--save", "", "--appendonly", "no", "--dir", folder(),
        "--protected-mode", "no", "--enable-debug-command", "yes",
    ]
    question = r"DEBUG SLEEP 0.005\r\nPING\r\nQUIT\r\n"
    return argv, {"mode": "raw", "question": question, "ending": r"+OK\r\n+PONG\r\n+OK\r\n"}


def java():
    where = folder()
    source = write(
        os.path.join(where, "Hello.java"),
        """import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Hello {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(
            new InetSocketAddress(Integer.parseInt(args[0])), 0);
        server.createContext("/", exchange -> {
            byte[] text = "hello\\n".getBytes();
            try {
                Thread.sleep(5);
            } catch (InterruptedException e) {
                return;
            }
            exchange.getResponseHeaders().set("Connection", "close");
            exchange.sendResponseHeaders(200, text.length);
            exchange.getResponseBody().write(text);
            exchange.close();
        });
        server.start();
    }
}
""",
    )
    code, _, err = call(need("javac"), "-d", where, source, seconds=100)
    check(code == 0, err)
    flags = ["-Xmx64m", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
    return [need("java"), *flags, "-cp", where, "Hello", PORT], {"mode": "http"}


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
    "python": (python_http, 8000, 1500),
    "node": (node, 24000, 0),
    "nginx": (nginx, 12000, 2000),
    "haproxy": (haproxy, 60000, 0),
    "redis": (redis, 8000, 0),
    "java": (java, 8000, 0),
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
