#!/usr/bin/env python3
"""Four copies of real servers on one port: 4,000 connections, all answered, even shares."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from programs import *

PORT = 8080
COPIES = 4
CONNECTIONS = 4000
GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"


def even_shares(*argv, question=GET, answer=b"HTTP/1.", ending=b"", seconds=60):
    """Copies of a command answer every connection, and each gets its share of them."""
    launcher = run(COPIES, *argv, seconds=seconds)
    until_live(COPIES, PORT)
    before = accepted()  # a server may ask itself whether it is ready
    for _ in range(CONNECTIONS):
        got = tcp(PORT, question, ending=ending)
        check(got.startswith(answer) and got.endswith(ending), "answered", got)
    after = accepted()
    check(len(after) == COPIES, "slots:", after)
    counts = [after[slot] - before[slot] for slot in sorted(after)]
    print("accepted:", counts)
    check(sum(counts) == CONNECTIONS, f"{sum(counts)} connections counted, not {CONNECTIONS}")
    for share in counts:
        check(0.2 <= share / CONNECTIONS <= 0.3, "a share is not a quarter:", counts)
    check(group(PORT)["steered"] and not group(PORT)["strangers"], status())
    stop(launcher, PORT)


def accepted():
    return {s["slot"]: s["accepted"] for s in group(PORT)["slots"]}


@test(120, ALL)
def python_http_server():
    even_shares(*python_http(PORT), ending=b"hello\n")


@test(120, ALL)
def node_http_server():
    even_shares(*node_http(PORT))


@test(120, ALL)
def nginx_server():
    even_shares(*nginx(PORT))


@test(120, ALL)
def redis_server():
    even_shares(*redis(PORT), question=b"PING\r\n", answer=b"+PONG", ending=b"\r\n")


@test(120, ALL)
def memcached():
    # started by root it wants to be told whose rights to keep
    who = ["-u", "root"] if os.getuid() == 0 else []
    even_shares(
        need("memcached"), "-p", PORT, "-U", 0, "-t", 1, *who,
        question=b"version\r\n", answer=b"VERSION ", ending=b"\r\n",
    )


@test(120, ALL)
def haproxy_server():
    even_shares(*haproxy(PORT))


@test(120, ALL)
def lighttpd():
    where = folder()
    write(os.path.join(where, "index.html"), "hello\n")
    config = write(
        os.path.join(where, "lighttpd.conf"),
        f"""server.port = {PORT}
server.bind = "127.0.0.1"
server.document-root = "{where}"
server.upload-dirs = ( "{where}" )
index-file.names = ( "index.html" )
""",
    )
    even_shares(need("lighttpd"), "-D", "-f", config, ending=b"hello\n")


@test(180, ALL)
def java_http_server():
    even_shares(*java_http(PORT), ending=b"hello\n", seconds=100)


main()
