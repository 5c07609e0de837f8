#!/usr/bin/env python3
"""Daemons that are not web servers: a name server all of whose children are replaced by each reload, services
that inetd hands the listener itself, servers that are root for the bind only, and a socket for each thread."""

import os
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from forkservers import *

PORT = 8070


def dns_query(name):
    labels = b"".join(bytes([len(word)]) + word.encode() for word in name.split("."))
    return struct.pack("!6H", 4711, 0x100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1)


def answered(message):
    """Is it an answer with an address?"""
    number, flags, _, answers = struct.unpack("!4H", message[:8])
    return number == 4711 and flags & 0x800F == 0x8000 and answers == 1


def dns_over_tcp(port):
    """The answer; nothing where nsd has closed what it had accepted, as its old children do in a reload, with
    and without us."""
    query = dns_query("www.example.test")
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(struct.pack("!H", len(query)) + query)
        try:
            size = client.recv(2, socket.MSG_WAITALL)
            return size and client.recv(struct.unpack("!H", size)[0], socket.MSG_WAITALL)
        except ConnectionResetError:
            return b""


def nsd(port):
    where = folder()
    write(os.path.join(where, "zone"),
          "@ 60 IN SOA ns a 1 60 60 60 60\n@ 60 IN NS ns\nns 60 IN A 192.0.2.1\nwww 60 IN A 192.0.2.2\n")
    write(
        os.path.join(where, "nsd.conf"),
        f"""server:
	ip-address: 127.0.0.1@{port}
	server-count: {WORKERS}
	username: "{AS if ROOT else ''}"
	zonesdir: "{where}"
	xfrdir: "{where}"
	xfrdfile: "{where}/xfrd"
	zonelistfile: "{where}/zones"
	database: ""
	pidfile: "{where}/pid"
remote-control:
	control-enable: no
zone:
	name: example.test
	zonefile: zone
""",
    )
    return Server([need("nsd"), "-d", "-c", f"{where}/nsd.conf"], where, port)


def servers_of(top):
    """nsd: the process that was started looks after zones, its child makes those that serve."""
    return set().union(*(children(pid) for pid in children(top)), set())


@test(60, "plain user")
def nsd_servers():
    """Each child has a socket of its own, before and after a reload; UDP is left alone."""
    server = nsd(PORT).start(with_us=True)

    def settled(before=frozenset()):
        answer = dns_over_tcp(PORT)
        check(not answer or answered(answer), f"answered {answer!r}")
        found = servers_of(server.pid)
        return found if len(found) == WORKERS and not found & before and own_sockets(
            PORT, found) else None

    first = until(20, f"{WORKERS} servers with a socket each", settled)
    check(answered(udp(PORT, dns_query("www.example.test"))), "no address over UDP")
    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    second = until(20, "another one for the one that was killed", lambda: settled({killed}))
    os.kill(server.pid, signal.SIGHUP)
    until(20, "others after a reload", lambda: settled(second))
    check(answered(dns_over_tcp(PORT)), "no address")
    check(group(PORT)["lost"] == 0, "lost:", group(PORT))
    server.stop()


# as openbsd-inetd and xinetd do it
INETD = f"""
import os, select, socket, sys
s = socket.create_server(("127.0.0.1", {PORT}))
while True:
    select.select([s], [], [])
    if os.fork() == 0:
        for fd in range(3): os.dup2(s.fileno(), fd)
        os.execv("/usr/bin/python3", ["python3", "-c", sys.argv[1]])
    os.wait()
"""
SERVICE = """
import signal, socket
signal.signal(signal.SIGPIPE, signal.SIG_DFL) # as a C program has it
s = socket.socket(fileno=0)
for i in range(5): s.accept()[0].sendall(b"served")
"""


@test(60, "plain user")
def a_wait_service_of_inetd():
    """Its standard error is the listener: a line of ours there would be the end of it."""
    server = preloaded("/usr/bin/python3", "-c", INETD, SERVICE, env={"SOCKSHARD_LOG": "info"})
    until(20, "a group", lambda: group(PORT))
    for _ in range(15):
        check(tcp(PORT) == b"served", "another answer")
    check(len(listeners(PORT)) == 1, "sockets:", listeners(PORT))
    server.end()


# proftpd and freeradius: another user's socket, bound by root
FOR_THE_BIND_ONLY = f"""
import os, socket
os.seteuid(33)
s = socket.socket()
os.seteuid(0)
s.bind(("127.0.0.1", {PORT}))
os.seteuid(33)
s.listen(8)
print("listens", flush=True)
while True: s.accept()[0].sendall(b"served")
"""


@test(60)
def root_for_the_bind_only():
    server = preloaded("/usr/bin/python3", "-c", FOR_THE_BIND_ONLY)
    server.says(r"no keeper \(another user made the socket than binds it.*shared by the option alone")
    server.says("^listens")
    check(tcp(PORT) == b"served", "another answer")
    check(not status()["keeper"], "a keeper was started for nothing:", status())
    server.end()
    strict = preloaded("/usr/bin/python3", "-c", FOR_THE_BIND_ONLY, env={"SOCKSHARD_STRICT": "1"})
    check(strict.wait() == 1, strict.output())
    strict.says("another user made the socket than binds it.*bind fails", forks=True)


# coturn, knot, pdns-recursor, named: a sharing socket for each thread
SEVERAL = f"""
import select, socket
def listener():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", {PORT}))
    s.listen(8)
    return s
own = [listener() for i in range(3)]
while True:
    for s in select.select(own, [], [])[0]: s.accept()[0].sendall(b"served")
"""


@test(60, "plain user")
def copies_with_several_sockets_each():
    """Each socket has a slot, and nobody is warned of slots that are not free for the second and third."""
    launcher = run(2, "/usr/bin/python3", "-c", SEVERAL)
    until_live(6, PORT)
    check(len(listeners(PORT)) == 6, "sockets:", listeners(PORT))
    check(tcp(PORT) == b"served", "another answer")
    stop(launcher)
    check("taken instead" not in launcher.output(), launcher.output())


main()
