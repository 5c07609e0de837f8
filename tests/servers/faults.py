#!/usr/bin/env python3
"""The keeper may die at any point: nothing is lost, nothing moves, nothing leaks, and what was asked
of it is done. Its worker is killed at each point of shim/keeper/fault.h, by a build of the command
that can do so; worker and vault are killed and stopped from outside."""

import errno
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

FAULTY = os.path.join(BUILD, "fault", "sockshard")
AT_ONCE = 12  # scenarios: they mostly wait
OWN = 8  # descriptors of an idle keeper: 3 standard, epoll, name, diag, 2 pidfds
EACH = 4  # of a shard: socket, connection, pidfd, page
SHARDS = 3
QUEUED = 30

LEAVER = """
import socket, sys
def listener():
    s = socket.socket()
    s.bind(("127.0.0.1", int(sys.argv[1])))
    s.listen(8)
    return s
first = listener()
print("ready", flush=True)
sys.stdin.readline()
first.shutdown(socket.SHUT_RDWR)
first.close()
listener().close()
last = listener()
print("left", flush=True)
"""


class Keeper:
    """A keeper of its own name, and what is started beside it."""

    def __init__(self, name, port, command=COMMAND, fault=None):
        self.name, self.port = name, port
        self.env = {"SOCKSHARD_KEEPER": name}
        extra = {"SOCKSHARD_FAULT": fault} if fault else {}
        self.process = Process(command, "keeper", "--foreground", f"--name={name}", "--idle=120",
                               env={**self.env, **extra})
        self.started = []
        self.pids = until(10, f"keeper {name}", lambda: self.status()["keeper"])

    def status(self):
        _, out, _ = call(COMMAND, "status", "--json", env=self.env)
        return json.loads(out)

    def group(self):
        for found in self.status()["groups"]:
            if found["address"].endswith(f":{self.port}"):
                return found
        return {"slots": [], "steered": False}

    def server(self, slot, proto="tcp"):
        started = preloaded(helper("support/ident_server"), proto, "127.0.0.1", self.port, "epoll",
                            env={**self.env, "SOCKSHARD_SLOT": slot,
                                 "SOCKSHARD_POLICY": f"{proto}/*:*"})
        self.started.append(started)
        started.says("^ready")
        return started

    def kill_vault(self):
        """And wait for the next, asking nothing: a question may be what kills the worker, and both
        at once would be another test. Returns whom it killed."""
        while True:
            now = self.status()["keeper"]
            time.sleep(0.05)
            if sleeps_in_epoll(now["pid"]):
                break
        os.kill(now["vault"], signal.SIGKILL)
        until(10, "a new vault", lambda: ended(now["pid"])  # of the point right after it
              or set(children(now["pid"])) - {now["vault"]})
        return now["vault"]

    def is_whole(self):
        """Every shard is live in its slot and steered, nothing else is held, nothing has leaked."""
        found = self.group()
        slots = found["slots"]
        return (found["steered"] and [s["slot"] for s in slots] == list(range(SHARDS)) and
                all(s["state"] == "live" and s["buckets"] > 0 for s in slots) and
                {s["pid"] for s in slots} == {s.pid for s in self.started if not ended(s.pid)} and
                descriptors(self.status()["keeper"]["pid"]) == OWN + EACH * SHARDS)

    def end(self):
        for started in self.started:
            if not ended(started.pid):
                started.popen.kill()
            started.popen.wait()
        keeper = self.status()["keeper"]
        if keeper:
            os.kill(keeper["vault"], signal.SIGTERM)
            until(10, "the keeper's end", lambda: ended(keeper["pid"]) and ended(keeper["vault"]))
        if self.process.popen.poll() is None:
            self.process.popen.wait(10)


def sleeps_in_epoll(pid):
    try:
        with open(f"/proc/{pid}/wchan") as file:
            return "ep" in file.read()
    except OSError:
        return False


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def ask(port):
    return tcp(port, b"?", ending=b"\n", seconds=15)


def wait_in_queue(port, n):
    """Clients that have asked and wait for the answer."""
    clients = []
    for _ in range(n):
        client = socket.create_connection(("127.0.0.1", port), 15)
        client.sendall(b"?")
        clients.append(client)
    return clients


def answered(clients):
    """How many of them get one."""
    n = 0
    for client in clients:
        client.settimeout(15)
        try:
            n += client.recv(100).endswith(b"\n")
        except OSError as error:
            print("lost:", error)
        client.close()
    return n


def scenario(point, nth, port):
    """Every exchange there is, with the worker killed once on the way. Was it killed?"""
    keeper = Keeper(f"fault/{os.getpid()}/{port}", port, FAULTY, f"{point}:{nth}")
    first = keeper.pids
    servers = [keeper.server(slot) for slot in range(SHARDS)]
    for _ in range(20):
        check(ask(port).endswith(b"\n"))
    freeze(servers[1].pid)
    clients = wait_in_queue(port, QUEUED)
    servers[1].signal(signal.SIGKILL)
    if point.startswith("restart_"):
        os.kill(keeper.status()["keeper"]["pid"], signal.SIGKILL)
    servers[1].wait()
    got = answered(clients)
    check(got == QUEUED, f"{QUEUED - got} of {QUEUED} queued connections lost")
    keeper.server(1)
    leaver = preloaded(need("python3"), "-c", LEAVER, port, env=keeper.env, stdin=subprocess.PIPE)
    leaver.says("^ready")
    keeper.kill_vault()
    until(10, "a new vault", lambda: (now := keeper.status()["keeper"])
          and now["vault"] != first["vault"] and not ended(now["vault"]))
    leaver.popen.stdin.write(b"\n")
    leaver.popen.stdin.close()
    check(leaver.wait() == 0 and "left" in leaver.output(), leaver.output())
    until(25, f"a whole keeper: {keeper.status()} {descriptors(keeper.status()['keeper']['pid'])}",
          keeper.is_whole, 0.2)
    pids = {int(ask(port).split()[1]) for _ in range(60)}
    check(pids == {s["pid"] for s in keeper.group()["slots"]}, "answers came from", pids)
    total = sum(s["accepted"] for s in keeper.group()["slots"])
    check(total == 20 + QUEUED + 60, f"{total} connections counted: a nudge was taken for a client")
    keeper.end()
    return bool(re.search(r"worker \d+ is gone", keeper.process.output()))


def points():
    code, out, err = call(FAULTY, "keeper", "--foreground", "--name=faults",
                          env={"SOCKSHARD_FAULT": "list"})
    check(code == 0 and "restart_loaded" in out, code, out, err)
    return out.split()


def all_points(passages, port, restarts=False):
    """Every point, killed at these passages, several scenarios at a time."""
    jobs = []
    for nth in passages:
        for point in points():
            if point.startswith(("claim_", "made_")):
                continue  # claim_faults.py
            if point.startswith("restart_") == restarts:
                jobs.append((point, nth, port))
                port += 1
    fired = side_by_side(AT_ONCE, jobs, scenario)
    never = [f"{point}:{nth}" for (point, nth, _), was in fired.items() if not was]
    print(f"{len(fired) - len(never)} kills, 0 lost; not passed so often: {never}")
    kills = len(fired) - len(never)
    print(f"| keeper killed at passage {passages} of each point | {len(fired) * QUEUED} | "
          f"{len(fired)} | {kills} | 0 | - | queued connections |")
    return never


@test(300)
def killed_at_the_first_passage_of_each_point():
    never = all_points([1], 21000)
    # a drained socket is ended at once, unless the next process of its slot is quicker
    never = [point for point in never if point != "evict_due:1"]
    check(not never, "points that nothing passes:", never)


for nth in (2, 3, 5, 9):
    test(300, name=f"killed_at_passage_{nth}_of_each_point")(
        lambda nth=nth: all_points([nth], 22000 + 100 * nth)
    )


@test(300)
def killed_while_it_takes_over():
    # the first passage is that of the first worker, which finds nothing
    never = all_points([1, 2], 23000, restarts=True)
    check(not never, "points that nothing passes:", never)


@test(60)
def a_request_that_kills_every_worker_is_given_up():
    name = "poison"
    keeper = Process(FAULTY, "keeper", "--foreground", f"--name={name}", "--idle=60",
                     env={"SOCKSHARD_FAULT": "request_handled:0"})
    until(10, "a keeper", lambda: f"@{name}\n" in open("/proc/net/unix").read())
    code, _, err = call(COMMAND, "status", env={"SOCKSHARD_KEEPER": name})
    check(code == 69, "a keeper that cannot handle anything has answered", code, err)
    check(re.search(r"type 1\) has ended 3 workers", keeper.output()), keeper.output())
    check(not ended(keeper.pid), "the vault has ended", keeper.output())
    until(5, "no connection left", lambda: descriptors(keeper.pid) == OWN)


@test(90)
def killed_while_a_udp_socket_joins():
    # the keeper binds it: asked again, the next worker finds it bound
    for port, point in enumerate(("listen_before", "listen_after", "join_listed", "join_told",
                                  "release_after", "request_handled", "reply_after"), 8070):
        for nth in (1, 2):
            keeper = Keeper(f"udp/{port}/{nth}", port, FAULTY, f"{point}:{nth}")
            for slot in (0, 1, 1):  # the last one takes the place of one that was killed
                if len(keeper.started) == 2:
                    keeper.started[1].popen.kill()
                    keeper.started[1].popen.wait()
                keeper.server(slot, "udp")
            until(10, f"{point}:{nth}: two live slots", lambda: (g := keeper.group())["steered"]
                  and [s["state"] for s in g["slots"]] == ["live", "live"]
                  and descriptors(keeper.status()["keeper"]["pid"]) == OWN + 2 * (EACH - 1), 0.1)
            answers = {int(udp(port).split()[1]) for _ in range(30)}
            check(answers == {s.pid for s in keeper.started if not ended(s.pid)}, point, answers)
            keeper.end()


class Load:
    """Clients with source ports of their own, which ask again and again and want to be answered by
    the same process each time."""

    def __init__(self, port, first, n=8, each=10):
        self.port, self.total, self.failed, self.moved, self.slowest = port, 0, [], [], 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(first + i * each, each), daemon=True)
                        for i in range(n)]
        for thread in self.threads:
            thread.start()

    def work(self, first, each):
        home = {}
        while not self.over.is_set():
            for source in range(first, first + each):
                begun = time.monotonic()
                try:
                    answer = tcp(self.port, b"?", source=source, ending=b"\n", seconds=15)
                    if home.setdefault(source, answer) != answer or not answer:
                        self.moved.append((source, home[source], answer))
                except OSError as error:
                    if error.errno == errno.EADDRNOTAVAIL:
                        continue  # our own last connection is not gone yet: nothing was sent
                    self.failed.append((source, error))
                self.total += 1
                self.slowest = max(self.slowest, time.monotonic() - begun)
            time.sleep(0.005)

    def end(self, what):
        self.over.set()
        for thread in self.threads:
            thread.join()
        check(not self.failed, f"{len(self.failed)} of {self.total} lost:", self.failed[:5])
        check(not self.moved, f"{len(self.moved)} of {self.total} moved:", self.moved[:5])
        print(f"{what}: {self.total} connections, 0 lost, 0 moved, slowest {self.slowest:.3f} s")
        print(f"| keeper: {what} | {self.total} | 0 | - | 0 | - | 0 moved |")


@test(90)
def worker_and_vault_are_killed_in_turn():
    port = 8060
    keeper = Keeper("turns", port)
    for slot in range(SHARDS):
        keeper.server(slot)
    load = Load(port, 30000)
    kills, killed, end = 0, None, time.monotonic() + 20
    while time.monotonic() < end:
        time.sleep(0.1)
        # a killed process may take its time to be dead: without the last one
        now = until(5, "both", lambda: (k := keeper.status()["keeper"])
                    and killed not in (k["pid"], k["vault"]) and k)
        if kills % 2:
            killed = keeper.kill_vault()
        else:
            killed = now["pid"]
            os.kill(killed, signal.SIGKILL)
        kills += 1
    until(10, "a whole keeper", keeper.is_whole, 0.2)
    load.end(f"{kills} kills")
    keeper.end()


@test(90)
def the_worker_is_stopped_for_three_seconds():
    port = 8060
    keeper = Keeper("stopped", port)
    for slot in range(SHARDS):
        keeper.server(slot)
    load = Load(port, 30000)
    worker = keeper.status()["keeper"]["pid"]
    freeze(worker)
    time.sleep(3)
    os.kill(worker, signal.SIGCONT)
    until(10, "a whole keeper", keeper.is_whole, 0.2)
    load.end("stopped for 3 s")
    check(keeper.status()["keeper"]["pid"] == worker)
    keeper.end()


@test(90)
def the_launcher_keeps_its_connection_when_the_worker_dies_and_makes_another_when_both_do():
    port = 8060
    launcher = run(SHARDS, helper("support/ident_server"), "tcp", "127.0.0.1", port, "epoll",
                   options=["-g", "x"])
    first = status()["keeper"]
    os.kill(first["pid"], signal.SIGKILL)
    second = until(10, "another worker", lambda: (k := status()["keeper"])
                   and k["pid"] != first["pid"] and k)
    check(second["vault"] == first["vault"], first, second)
    check(all(s["supervised"] for s in live(port).values()) and len(live(port)) == SHARDS, status())
    check("the keeper" not in launcher.output(), launcher.output())
    load = Load(port, 30000)
    for pid in (second["vault"], second["pid"]):
        os.kill(pid, signal.SIGSTOP)
    for pid in (second["vault"], second["pid"]):
        os.kill(pid, signal.SIGKILL)
    launcher.says("the keeper is back")
    check(status()["keeper"]["vault"] != second["vault"], status())
    load.end("both killed at once")
    until(10, "all steered again", lambda: (g := group(port))["steered"] and len(live(port)) == SHARDS
          and all(s["buckets"] for s in live(port).values()))
    stop(launcher, port)


main()
