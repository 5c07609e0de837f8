#!/usr/bin/env python3
"""The mode handover, with real servers: the newest that is ready has all new connections."""

import contextlib
import os
import re
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import Death, KeeperKiller, lost
from programs import *

PORT = 8080
GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"


def says(what):
    return nginx(PORT, f'return 200 "{what}\\n";')


def version(policy, *argv):
    return preloaded(*argv, env={"SOCKSHARD_POLICY": policy, "SOCKSHARD_GROUP": "versions"})


def kill(server):
    """What it had accepted ends with it: nobody is to ask while it dies."""
    server.popen.kill()
    server.wait()


class Requests:
    """Threads that ask again and again; every answer is kept with its times."""

    def __init__(self, ask, threads=8):
        self.ask, self.over = ask, threading.Event()
        self.done, self.failures = [], []
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def work(self):
        while not self.over.is_set():
            with socket.socket() as client:
                begin = time.monotonic_ns()
                client.settimeout(20)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                source, what = 0, "failed"
                try:
                    client.connect(("127.0.0.1", PORT))
                    connected = time.monotonic_ns()
                    source = client.getsockname()[1]
                    self.done.append((begin, connected, self.ask(client)))
                    continue
                except (OSError, Failure) as error:
                    what = repr(error)
                self.failures.append({"outcome": what, "family": 4, "port": source, "begin": begin,
                                      "end": time.monotonic_ns()})

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(30)

    def until_some(self, who, n=1500):
        """So many more answers, until the last ones are all of one."""
        start = len(self.done)
        until(20, f"{n} answers, the last ones of {who}", lambda: len(self.done) > start + n
              and {a for _, _, a in self.done[-100:]} == {who})


def moved_at_once(done, old, new, since):
    """From the first answer of the new one on, all that connect later get the new one: how many."""
    later = [d for d in done if d[0] >= since]
    check({a for _, _, a in later} <= {old, new}, {a for _, _, a in later})
    first = min(connected for _, connected, a in later if a == new)
    behind = [a for begin, _, a in later if begin > first]
    wrong = sum(a != new for a in behind)
    check(not wrong, f"{wrong} of {len(behind)} went to {old} after the first had gone to {new}")
    return len(behind)


def ask_http(client):
    client.sendall(GET)
    got = b""
    while True:
        more = client.recv(65536)
        if not more:
            break
        got += more
    check(b"\r\n\r\n" in got and got.endswith(b"\n"), f"a short answer: {got!r}")
    return got.partition(b"\r\n\r\n")[2].decode().strip()


def under_load(killing):
    policy = f"{PORT}=handover"
    one = version(policy, *says("v1"))
    until_live(1, PORT)
    with (KeeperKiller(0.1) if killing else contextlib.nullcontext()) as killer:
        requests = Requests(ask_http)
        requests.until_some("v1")
        started = time.monotonic_ns()
        two = version(policy, *says("v2"))
        requests.until_some("v2")
        up = moved_at_once(list(requests.done), "v1", "v2", started)
        death = Death(two.pid, PORT)
        requests.until_some("v1")
        back = moved_at_once(list(requests.done), "v2", "v1", death.at)
        three = version(policy, *says("v3"))
        requests.until_some("v3")
        another = Death(one.pid, PORT)  # the older one: nobody notices
        requests.until_some("v3")
        requests.stop()
    unexplained = lost(requests.failures, [death, another])
    print(f"{len(requests.done)} answers, {len(requests.failures)} failures, {len(unexplained)} of "
          f"them lost; {up} after v2 came and {back} after it was killed, none to another; "
          f"keeper's worker killed {killer.kills if killer else 0} times")
    check(not unexplained, unexplained[:5])
    check(status()["groups"][0]["mode"] == "handover" and group(PORT)["steered"], status())
    three.end()


@test(120)
def nginx_goes_to_the_next_version_and_back_under_load():
    under_load(False)


@test(120)
def so_it_does_while_the_keepers_worker_is_killed():
    under_load(True)


@test(60)
def redis_goes_to_the_next_version_and_back():
    def start():
        return version(f"{PORT}=handover", *redis(PORT, "--bind", "127.0.0.1"))

    def pid():
        got = tcp(PORT, b"INFO server\r\n", ending=None)
        return int(re.search(rb"process_id:(\d+)", got)[1])

    one = start()
    until_live(1, PORT)
    check({pid() for _ in range(50)} == {one.pid}, "one alone")
    two = start()
    until(10, "the newest", lambda: pid() == two.pid)
    check({pid() for _ in range(200)} == {two.pid}, "two")
    kill(two)
    check({pid() for _ in range(200)} == {one.pid}, "back")


def ident(proto="tcp", *words):
    return [helper("support/ident_server"), proto, "127.0.0.1", PORT, *words]


def who(ask=tcp):
    return int(ask(PORT, b"?").split()[1])


def settled(server, ask=tcp):
    until(10, f"pid {server.pid} gets all", lambda: who(ask) == server.pid)
    others = {who(ask) for _ in range(100)} - {server.pid}
    check(not others, f"others than {server.pid}:", others)


@test(60)
def a_version_that_never_accepts_gets_nothing():
    one = version(f"{PORT}=handover", *ident())
    until_live(1, PORT)
    settled(one)
    deaf = version(f"{PORT}=handover", need("python3"), "-c", f"""
import socket, time
s = socket.socket()
s.bind(("127.0.0.1", {PORT}))
s.listen(64)
time.sleep(1000)
""")
    until_live(2, PORT)
    check({who() for _ in range(300)} == {one.pid}, "the one that does not accept got some")
    two = version(f"{PORT}=handover", *ident())
    settled(two)
    kill(two)
    settled(one)
    kill(deaf)


@test(60)
def a_newest_one_that_stands_still_is_passed_over_until_it_moves():
    one = version(f"{PORT}=handover,stuck=400", *ident())
    until_live(1, PORT)
    two = version(f"{PORT}=handover,stuck=400", *ident())
    settled(two)
    freeze(two.pid)
    began = time.monotonic()
    waiting = who()  # waits in the queue of the frozen one, and is given to the other
    print(f"answered by the one before after {time.monotonic() - began:.2f} s")
    check(waiting == one.pid, waiting)
    settled(one)
    two.signal(signal.SIGCONT)
    settled(two)


def asking():
    client = socket.create_connection(("127.0.0.1", PORT), 20)
    client.sendall(b"?")
    return client


def answerer(client):
    pid = int(client.recv(100).split()[1])
    client.close()
    return pid


@test(60)
def what_waited_in_the_newest_is_given_to_the_one_before():
    servers = []
    for _ in range(4):
        servers.append(version(f"{PORT}=handover,stuck=0", *ident()))
        until_live(len(servers), PORT)
        settled(servers[-1])
    for server in (servers[3], servers[2]):
        freeze(server.pid)
        waiting = [asking() for _ in range(10)]
        kill(server)
        got = [answerer(client) for client in waiting]
        before = servers[servers.index(server) - 1].pid
        check(got == [before] * 10, f"{got}, not all of {before}")
        check(group(PORT)["lost"] == 0, status())


@test(60)
def an_older_one_that_the_next_keeper_knows_first_does_not_take_over():
    policy = f"{PORT}=handover,stuck=0"
    one = version(policy, *ident())
    until_live(1, PORT)
    settled(one)
    freeze(one.pid)
    early = asking()
    two = version(policy, *ident())
    until(10, "the newest", lambda: [s["pid"] for s in live(PORT).values() if s["buckets"]] == [two.pid])
    kill_keeper()
    freeze(two.pid)
    one.signal(signal.SIGCONT)
    check(answerer(early) == one.pid, "another one had it")
    until(10, "it is back", lambda: status()["keeper"]
          and [s["pid"] for s in live(PORT).values()] == [one.pid])
    late = asking()
    late.settimeout(0.5)
    try:
        check(False, "answered by", answerer(late))
    except socket.timeout:
        pass
    late.settimeout(20)
    two.signal(signal.SIGCONT)
    check(answerer(late) == two.pid, "another one had it")
    settled(two)


@test(60)
def the_order_outlives_the_keeper():
    servers = []
    for _ in range(3):
        servers.append(version(f"{PORT}=handover", *ident()))
        until_live(len(servers), PORT)
        settled(servers[-1])
    old = kill_keeper()
    settled(servers[2])
    until_live(3, PORT)
    check(status()["keeper"]["pid"] != old["pid"], "the same keeper")
    for index in (2, 1):
        kill(servers[index])
        settled(servers[index - 1])


@test(60)
def run_hands_over_to_the_copy_that_started_last():
    launcher = run(3, *ident(), options=["-p", f"{PORT}=handover"])
    slots = {entry["pid"]: slot for slot, entry in until_live(3, PORT).items()}
    first = until(10, "one for all", lambda: (lambda p: len(p) == 1 and p.pop())(
        {who() for _ in range(50)}))
    check(first in slots, first, slots)
    os.kill(first, signal.SIGKILL)  # started again at once, and then the newest
    again = until(10, "another process in its slot", lambda: live(PORT).get(
        slots[first], {"pid": first})["pid"] != first and live(PORT)[slots[first]]["pid"])
    until(10, "the newest", lambda: who() == again)
    check({who() for _ in range(100)} == {again}, "not the newest")
    stop(launcher, PORT)


@test(60)
def the_old_versions_launcher_is_stopped_when_the_next_one_serves():
    named = ["-g", "web", "-p", f"{PORT}=handover"]
    old = run(2, *says("v1"), options=named)
    requests = Requests(ask_http)
    requests.until_some("v1")
    started = time.monotonic_ns()
    new = run(2, *says("v2"), options=named)
    requests.until_some("v2")
    stop(old)
    requests.until_some("v2")
    requests.stop()
    moved_at_once(requests.done, "v1", "v2", started)
    print(len(requests.done), "answers,", len(requests.failures), "failures")
    check(not requests.failures, requests.failures[:5])
    check(sorted(live(PORT)) == [2, 3], status())
    stop(new, PORT)


@test(60)
def udp_goes_to_the_newest_and_back():
    servers = []
    for _ in range(3):
        servers.append(version(f"udp/{PORT}=handover", *ident("udp")))
        until_live(len(servers), PORT, "udp")
        settled(servers[-1], udp)
    kill(servers[1])
    settled(servers[2], udp)
    kill(servers[2])
    settled(servers[0], udp)


def dns(port, tries=3):
    """The address that v.test has."""
    question = b"\x01v\x04test\x00\x00\x01\x00\x01"
    for number in range(tries):
        message = struct.pack("!6H", 0x1000 + number, 0x0100, 1, 0, 0, 0) + question
        got = udp(port, message, tries=1)
        if len(got) >= 12 and struct.unpack("!H", got[6:8])[0] == 1:
            return socket.inet_ntoa(got[-4:])
    raise Failure(f"no address in {got!r}")


@test(60)
def dnsmasq_goes_to_the_next_version_and_back():
    def dnsmasq(address):
        user = ["--user=root", "--group=root"] if os.getuid() == 0 else []
        return version(f"*/*:{PORT}=handover", need("dnsmasq"), "--keep-in-foreground", "--no-resolv",
                       "--no-hosts", "--conf-file=/dev/null", "--pid-file=", f"--port={PORT}",
                       "--listen-address=127.0.0.1", "--bind-interfaces", *user,
                       f"--address=/v.test/{address}")

    one = dnsmasq("10.0.0.1")
    until_live(1, PORT, "udp")
    check({dns(PORT) for _ in range(50)} == {"10.0.0.1"}, "one alone")
    two = dnsmasq("10.0.0.2")
    until_live(2, PORT, "udp")
    check({dns(PORT) for _ in range(500)} == {"10.0.0.2"}, "two")
    kill(two)
    until(5, "one live", lambda: len(live(PORT, "udp")) == 1)
    check({dns(PORT) for _ in range(500)} == {"10.0.0.1"}, "back")
    check(one.popen.poll() is None, one.output())


main()
