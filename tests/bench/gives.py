"""What it costs to give waiting connections to live shards, an idle keeper, and a served connection.
Part of bench.py."""

import json
import os
import signal
import socket
import statistics
import struct
import time

from table import *

SERVE = os.path.join(BENCH, "serve")
RESERVE = os.path.join(BENCH, "lib_reserve")
PORT, NATIVE_PORT = 8400, 8300
IDLE_SHARDS, IDLE_S = 64, 10
COPIES = 4
ROUNDS, CONNECTIONS = 20, 5000
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no TIME_WAIT at either end


def serve(*words, port=PORT, slot=0):
    env = {"SOCKSHARD_POLICY": f"{port}=balance,hold=60", "SOCKSHARD_SLOT": str(slot)}
    return ready(start(SERVE, port, "plain", *words, preload=[LIBRARY], **env))


def slots():
    return {s["slot"]: s for g in status()["groups"] for s in g["slots"]}


def until_live(n):
    until(20, "all slots live", lambda: [s["state"] for s in slots().values()] == ["live"] * n)


def wait_in_queue(port, n):
    """n connections whose question is there already; their ports."""
    clients = {}
    for _ in range(n):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        client.sendall(b"1\n")
        clients[client.getsockname()[1]] = client
    return clients


def until_answered(clients):
    for client in clients.values():
        check(client.recv(64) == b"1 \n", "a waiting connection got another answer")
        client.close()


# --- giving


def accepted(logs, clients, since):
    """When each of the clients was accepted, in ns after `since`, in order."""
    at = sorted((at - since, port) for log in logs for at, port in log.entries() if port in clients)
    once = sorted(port for _, port in at) == sorted(clients)
    check(once, "not each was accepted once:", len(at), len(clients))
    return at


def drain_native(server, log, n):
    """n wait while their server is stopped."""
    log.clear()
    freeze(server.pid)
    clients = wait_in_queue(NATIVE_PORT, n)
    since = time.monotonic_ns()
    server.send_signal(signal.SIGCONT)
    until_answered(clients)
    return [at for at, _ in accepted([log], clients, since)]


def drain_orphan(port, logs, reserve_log, n):
    """n wait while their server is stopped, then it is killed: others, who have joined meanwhile and
    have nothing to do, are given them. Times of acceptance, and from the keeper's accept on."""
    victim = serve(port=port)
    until_answered(wait_in_queue(port, 20))
    freeze(victim.pid)
    clients = wait_in_queue(port, n)
    receivers = [serve(log.name, port=port, slot=i + 1) for i, log in enumerate(logs)]
    for log in (*logs, reserve_log):
        log.clear()
    since = time.monotonic_ns()
    end(victim)
    until_answered(clients)
    at = accepted(logs, clients, since)
    reserved = dict((port, at - since) for at, port in reserve_log.entries())
    end(*receivers)
    return [t for t, _ in at], [t - reserved[port] for t, port in at]


def gaps(at):
    return [b - a for a, b in zip(at, at[1:])]


def giving(shards, n, rounds):
    """Per round: native's times of acceptance, ours, and ours from the keeper's accept on."""
    logs = [Log(2) for _ in range(shards)]
    native_log, reserve_log = Log(2), Log(2)
    keeper = start_keeper(preload=[RESERVE], BENCH_RESERVE=reserve_log.name)
    native = ready(start(SERVE, NATIVE_PORT, "plain", native_log.name))
    found = []
    for i in range(rounds):  # a port each: what is left of the last round is no matter
        ours = drain_orphan(PORT + i, logs, reserve_log, n)
        found.append((drain_native(native, native_log, n), *ours))
    end(native, keeper)
    return found


def gives():
    found = giving(1, 1, 40)
    alone = [f[2][0] for f in found]
    row_alone("one give, keeper's accept to shard's", alone, "us", "<= 200 us")
    found = giving(1, 200, 10)
    native = [statistics.median(gaps(f[0])) for f in found]
    ours = [statistics.median(gaps(f[1])) for f in found]
    compare("each of 200 of a dead shard, to 1", native, ours, "us", "<= 200 us")
    found = giving(3, 1000, 8)
    native, ours = [f[0][-1] for f in found], [f[1][-1] for f in found]
    compare("1,000 of a dead shard to 3, from kill -9", native, ours, "ms", "<= 1000 ms")


def row_alone(what, values, unit, target=""):
    by = UNITS[unit]
    low, middle, high = (f"{value / by:.1f}" for value in quartiles(values))
    row(what, "", f"{middle} {unit}", "", "", f"{low} .. {high}", target)


# --- idling


def cpu_ns(pid):
    """User and system time of all its threads: proc(5), schedstat."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total


def ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        words = file.read().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def switches(pid):
    with open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)


def idling():
    keeper = start_keeper()
    shards = [serve(slot=slot) for slot in range(IDLE_SHARDS)]
    until_live(IDLE_SHARDS)
    pids = [pid for pid in map(status()["keeper"].get, ("pid", "vault")) if pid]
    time.sleep(1)  # the end of joining
    before = [sum(map(what, pids)) for what in (cpu_ns, ticks, switches)]
    time.sleep(IDLE_S)
    after = [sum(map(what, pids)) for what in (cpu_ns, ticks, switches)]
    ns, jiffies, woken = (b - a for a, b in zip(before, after))
    row(f"an idle keeper of {IDLE_SHARDS} shards, CPU", "", f"{ns / IDLE_S / 1e7:.4f} %",
        "", "", f"{woken} switches", "<= 0.1 %")
    tick_ms = 1000 // os.sysconf("SC_CLK_TCK")
    print(f"  processes: {len(pids)}, {IDLE_S} s; utime + stime: {jiffies} ticks of {tick_ms} ms")
    end(*shards, keeper)


# --- serving


def load(port):
    words = ["-p", port, "-n", CONNECTIONS, "-c", 32, "-m", "line"]
    code, out, err = call(helper("chaos/client"), *words)
    check(code == 0, err)
    result = json.loads(out.splitlines()[-1])
    check(result["ok"] == CONNECTIONS, result)


def cost(port, servers):
    """CPU time of the servers per connection, ns"""
    before = sum(cpu_ns(s.pid) for s in servers)
    load(port)
    return (sum(cpu_ns(s.pid) for s in servers) - before) / CONNECTIONS


def serving(instructions):
    keeper = start_keeper()
    native = [ready(start(SERVE, NATIVE_PORT, "share")) for _ in range(COPIES)]
    ours = [serve(slot=slot) for slot in range(COPIES)]
    until_live(COPIES)
    both = [(NATIVE_PORT, native), (PORT, ours)]
    times = ([], [])
    for port, servers in both:
        load(port)
    for i in range(ROUNDS * TIMES):
        for who in (0, 1) if i % 2 else (1, 0):
            times[who].append(cost(*both[who]))
    ratios = [b / a for a, b in zip(*times)]
    compare(f"a connection served by {COPIES} copies, CPU", *times, "us")
    low, middle, high = quartiles(ratios)
    what = f"  ratio of neighbours, {len(ratios)} rounds of {CONNECTIONS}"
    spread = f"{low:.3f} .. {high:.3f}"
    row(what, "", "", "", f"{middle:.3f}", spread, "<= 1.02")
    print(f"  instructions of the library: {instructions:.0f} a connection (accept and close)")
    end(*native, *ours, keeper)


def measure(instructions):
    gives()
    idling()
    serving(instructions)
