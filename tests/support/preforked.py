"""Servers that bind once and fork (tests/preload/prefork.c), and what each process of theirs holds."""

import collections
import os
import signal
import socket
import struct

from harness import *

PORT = 8100
BOTH = "plain user"
INFO = {"SOCKSHARD_LOG": "info"}


def ask(port=PORT):
    return int(tcp(port).split()[0])


def listeners(port=PORT):
    """inodes of the listening sockets of a port"""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in list(file)[1:]]
    return {int(r[9]) for r in rows if r[3] == "0A" and r[1].endswith(f":{port:04X}")}


def sockets_of(pid, port=PORT):
    """listening sockets of a port that a process holds"""
    held = set()
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has ended
        return held
    for entry in entries:
        try:
            name = os.readlink(f"/proc/{pid}/fd/{entry}")
        except OSError:
            continue
        if name.startswith("socket:["):
            held.add(int(name[8:-1]))
    return held & listeners(port)


def prefork(how, option=None, n=4, env=None, preload=True):
    start = preloaded if preload else Process
    words = [how, n] + ([option] if option else [])
    server = start(helper("preload/prefork"), PORT, *words, env={**INFO, **(env or {})})
    server.says("^ready")
    return server


def each_has_its_own(pids):
    """Every process listens on one socket, and no two on the same."""
    held = [sockets_of(pid) for pid in pids]
    return all(len(h) == 1 for h in held) and len(set.union(*held)) == len(held)


def all_answer(pids, n=400):
    seen = collections.Counter(ask() for _ in range(n))
    check(set(seen) == set(pids), f"answers came from {seen}, not {pids}")
    return seen


def crowd():
    """Several clients at once, so that not the same process is always the quickest."""
    clients = [socket.create_connection(("127.0.0.1", PORT), 20) for _ in range(8)]
    for client in clients:
        client.settimeout(0.05)
        try:
            client.recv(100)
        except socket.timeout:
            continue
    for client in clients:
        client.close()
    return True


def own_sockets(server, pids, slots=None):
    until(20, "a socket for each of " + str(pids), lambda: crowd() and each_has_its_own(pids))
    until_live(slots or len(pids), PORT)
    check(len(listeners()) == (slots or len(pids)), listeners())
    check(group(PORT)["steered"], status())
    all_answer(pids)
    check(group(PORT)["lost"] == 0, status())


def one_socket(pids):
    for _ in range(50):
        ask()
    check(len(listeners()) == 1, "listening sockets:", listeners())
    found = {ask() for _ in range(400)}
    check(found <= set(pids), f"answers came from {found}")


def native(how, option=None):
    server = prefork(how, option, preload=False)
    check(ask() > 0 and len(listeners()) == 1)
    server.signal(signal.SIGTERM)
    server.wait()
    until(5, "a free port", lambda: refuses(PORT))


def signed(fd, peer, key=b"secret"):
    """TCP_MD5SIG, tcp(7): what goes to and comes from that address is signed."""
    address = struct.pack("=H2x4s", socket.AF_INET, socket.inet_aton(peer)).ljust(128, b"\0")
    sig = address + struct.pack("=BBHi80s", 0, 0, len(key), 0, key)
    fd.setsockopt(socket.IPPROTO_TCP, 14, sig)


def activated(n, how, option, user=None, key=False):
    """As a service manager does: the socket is made by somebody else, and kept by him."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", PORT))
        if key:
            signed(listener, "127.0.0.9")
        listener.listen(64)
        os.set_inheritable(listener.fileno(), True)
        fd = listener.fileno()
        found = [
            preloaded(
                helper("preload/prefork"), PORT, how, option, fd, env=INFO, pass_fds=[fd], user=user
            )
            for _ in range(n)
        ]
        for server in found:
            server.says("^ready")
        return found
