#!/usr/bin/env python3
"""What is missing or fails takes away what it carried and no more: a kernel without BPF or sock_diag,
a keeper that stands still, is not there or has no descriptor left. Connections are answered always."""

import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8070
HOST = "127.0.0.1"
NAME = "sockshard-degrade"
STILL = 5  # s: several deadlines of the keeper's; a call that waits for it without one takes longer
KINDS = ("ident", "ident_epoll", "http")


def server(kind, port=PORT):
    if kind == "http":
        return [need("python3"), "-m", "http.server", "--bind", HOST, port]
    words = ["epoll"] if kind == "ident_epoll" else []
    return [helper("support/ident_server"), "tcp", HOST, port, *words]


def ask(kind="ident", port=PORT, **how):
    """One answer; how long it took."""
    start = time.monotonic()
    if kind == "http":
        answer = tcp(port, b"GET / HTTP/1.0\r\n\r\n", ending=b"", **how)
        check(answer.startswith(b"HTTP/1.0 200"), answer[:60])
    else:
        answer = tcp(port, b"?", **how)
        check(re.fullmatch(rb"[-\d]+ \d+\n", answer), answer)
    return answer, time.monotonic() - start


def keeper(library=None, limit=None):
    """A keeper by hand, which everybody started from now on uses."""
    os.environ["SOCKSHARD_KEEPER"] = NAME
    env = {"LD_PRELOAD": helper(f"preload/{library}")} if library else {}
    more = {}
    if limit:
        more["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    made = Process(COMMAND, "keeper", "--foreground", "--name", NAME, env=env, **more)
    seen = until(10, "a keeper", lambda: status()["keeper"])
    check(made.pid in (seen["pid"], seen["vault"]), "another keeper:", seen)
    made.pids = [seen["pid"], seen["vault"]]
    return made


def stop_keeper(by_hand):
    for pid in by_hand.pids:
        freeze(pid)


def wake_keeper(by_hand):
    for pid in by_hand.pids:
        os.kill(pid, signal.SIGCONT)


def lines(process):
    """What we said, and nobody else."""
    return [line for line in process.output().splitlines() if line.startswith("sockshard:")]


def listeners(port=PORT):
    """So many sockets listen on the port, as the kernel says."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def connections(pids):
    """pid -> its connections to the keeper: a question that is not answered in time ends one."""
    with open("/proc/net/unix") as file:
        local = {line.split()[6] for line in list(file)[1:]}
    found = {}
    for pid in pids:
        names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        found[pid] = {name for name in names if name[len("socket:["):-1] in local}
    check(all(found.values()), "no connection to the keeper:", found)
    return found


def states(port=PORT):
    found = group(port)
    return sorted(slot["state"] for slot in found["slots"]) if found else []


def clients(n, kind, port=PORT):
    """Connections with a question in them."""
    made = []
    for _ in range(n):
        client = socket.create_connection((HOST, port), 20)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n" if kind == "http" else b"?")
        made.append(client)
    return made


def answered(waiting, patience):
    """When each was answered (s), in that order, until nothing has come for so long; who still waits.
    An answered client ends: a server that serves one at a time goes on."""
    start, times, left = time.monotonic(), [], list(waiting)
    while left:
        ready = select.select(left, [], [], patience)[0]
        if not ready:
            break
        for client in ready:
            check(client.recv(4096), "a connection was closed without an answer")
            client.close()
            left.remove(client)
            times.append(time.monotonic() - start)
    return times, left


def all_answered(waiting):
    left = answered(waiting, 20)[1]
    check(not left, f"{len(left)} of {len(waiting)} are not answered", status())


# --- without BPF


def bpf_refused(kind):
    by_hand = keeper("lib_no_bpf")
    options = ["--restart", "no", "-p", f"{PORT},hold=60"]
    run(3, *server(kind), options=options)
    pids = {slot["pid"] for slot in until_live(3, PORT).values()}
    check(group(PORT)["steered"] is False, status())
    by_hand.says("is not steered: attaching the program failed: Operation not permitted")
    for _ in range(200):
        ask(kind)
    check(all(slot["accepted"] for slot in live(PORT).values()), "not all serve:", status())

    victim = live(PORT)[1]["pid"]
    freeze(victim)
    waiting = []
    while live(PORT)[1]["queue"] < 3:
        check(len(waiting) < 150, "the kernel sends nothing to the stopped one")
        waiting += clients(1, kind)
    os.kill(victim, signal.SIGKILL)
    until(10, "an orphan", lambda: states() == ["live", "live", "orphan"])
    all_answered(waiting)
    print(f"3 of {len(waiting)} waited in the killed one")
    check(listeners() == 3, "the dead one's socket is not held")

    longest = max(ask(kind)[1] for _ in range(200))
    print(f"200 more, some of them sent to the orphan; the slowest took {longest:.3f} s")
    check(states() == ["live", "live", "orphan"] and listeners() == 3, status())
    check(group(PORT)["lost"] == 0, status())
    check({s["pid"] for s in live(PORT).values()} == pids - {victim}, status())


for _kind in KINDS:
    test(90, ALL, f"without_bpf_a_dead_shards_connections_are_answered_{_kind}")(
        lambda kind=_kind: bpf_refused(kind)
    )


# --- a keeper that stands still


@test(60, ALL)
def a_bind_does_not_wait_for_a_stopped_keeper():
    by_hand = keeper()
    stop_keeper(by_hand)
    for kind in KINDS:
        start = time.monotonic()
        one = preloaded(*server(kind))
        until(20, "an answer", lambda: not refuses(PORT))
        took = time.monotonic() - start
        ask(kind)
        check(took < STILL, f"{kind} was there after {took:.1f} s")
        check(len(lines(one)) == 1 and "shared by the option alone" in lines(one)[0], lines(one))
        strict = preloaded(*server(kind), env={"SOCKSHARD_STRICT": "1"})
        code = strict.wait(STILL)
        check(code == 1, f"strict {kind} ended with {code}: {strict.output()}")
        check("Connection timed out" in strict.output(), strict.output())
        check(len(lines(strict)) == 1 and "STRICT" in lines(strict)[0], lines(strict))
        one.signal(signal.SIGKILL)
        one.wait()
    wake_keeper(by_hand)
    one = preloaded(*server("ident"))
    one.says("^ready")
    until_live(1, PORT)
    check(group(PORT)["steered"] and not lines(one), status(), lines(one))


BIND_AND_WAIT = """
import socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", int(sys.argv[1])))
print("bound", flush=True)
sys.stdin.readline()
start = time.monotonic()
s.listen(16)
print(f"listens after {time.monotonic() - start:.3f}", flush=True)
while True:
    c = s.accept()[0]
    c.recv(100)
    c.sendall(b"- 1\\n")
    c.close()
"""


def bound(**env):
    one = preloaded(
        need("python3"), "-c", BIND_AND_WAIT, PORT, env=env, stdin=subprocess.PIPE
    )
    one.says("^bound")
    return one


def go_on(process):
    process.popen.stdin.write(b"\n")
    process.popen.stdin.flush()


@test(60, ALL)
def a_listen_does_not_wait_for_a_stopped_keeper():
    by_hand = keeper()
    one = bound()
    stop_keeper(by_hand)
    go_on(one)
    check(float(one.says(r"^listens after (\S+)$")[1]) < STILL, one.output())
    ask()
    check(len(lines(one)) == 1 and "shared by the option alone" in lines(one)[0], lines(one))
    wake_keeper(by_hand)
    for _ in range(20):
        ask()
    until_live(1, PORT)
    check(group(PORT)["steered"] and not group(PORT)["strangers"], status())
    one.signal(signal.SIGKILL)
    one.wait()
    until(10, "an orphan", lambda: states() == ["orphan"])


@test(60, ALL)
def a_strict_listen_fails_and_leaves_nothing_behind():
    by_hand = keeper()
    one = bound(SOCKSHARD_STRICT="1")
    stop_keeper(by_hand)
    go_on(one)
    check(one.wait(STILL) == 1 and "TimeoutError" in one.output(), one.output())
    check(len(lines(one)) == 1 and "listen fails" in lines(one)[0], lines(one))
    wake_keeper(by_hand)
    until(5, "nothing held", lambda: not group(PORT))
    check(refuses(PORT) and listeners() == 0, "somebody listens:", status())
    late = Process(*server("ident"))
    late.says("^ready")


@test(90, ALL)
def shards_serve_undisturbed_while_the_keeper_is_stopped():
    by_hand = keeper()
    run(3, *server("ident_epoll"), options=["-g", "still"])
    before = {s: v["pid"] for s, v in until_live(3, PORT).items()}
    own = connections(before.values())
    stop_keeper(by_hand)
    asked = [ask() for _ in range(300)]
    pids = {int(answer.split()[1]) for answer, _ in asked}
    print(f"the slowest answer took {max(took for _, took in asked):.3f} s")
    check(pids == set(before.values()), f"answers came from {pids}")
    check(connections(pids) == own, "somebody has asked the keeper")
    wake_keeper(by_hand)
    after = {s: v["pid"] for s, v in until_live(3, PORT).items()}
    found = group(PORT)
    check(after == before and found["steered"] and not found["strangers"], status())
    check(sum(s["accepted"] for s in found["slots"]) == 300, status())


@test(90, ALL)
def a_copy_that_starts_while_the_keeper_is_stopped():
    """It serves by the option alone and is a stranger to the keeper; a later start is not."""
    by_hand = keeper()
    env = {"SOCKSHARD_GROUP": "late"}
    first = preloaded(*server("ident"), env=env)
    until_live(1, PORT)
    stop_keeper(by_hand)
    late = preloaded(*server("ident"), env=env)
    late.says("^ready")
    check(len(lines(late)) == 1, lines(late))
    for _ in range(50):
        ask()
    wake_keeper(by_hand)
    until(10, "one live, one stranger",
          lambda: len(live(PORT)) == 1 and [s["pid"] for s in group(PORT)["strangers"]] == [late.pid])
    check(group(PORT)["steered"], status())
    third = preloaded(*server("ident"), env=env)
    third.says("^ready")
    until_live(2, PORT)
    answers = {int(ask()[0].split()[1]) for _ in range(200)}
    check(answers == {first.pid, third.pid}, f"answers came from {answers}", status())
    late.signal(signal.SIGKILL)
    late.wait()
    until(10, "no stranger", lambda: not group(PORT)["strangers"])
    answers = {int(ask()[0].split()[1]) for _ in range(200)}
    check(answers == {first.pid, third.pid} and group(PORT)["steered"], answers, status())


CLOSE = """
import socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(16)
print("ready", flush=True)
sys.stdin.readline()
start = time.monotonic()
s.close()
print(f"closed after {time.monotonic() - start:.3f}", flush=True)
sys.stdin.readline()
"""


@test(60, ALL)
def a_close_does_not_wait_for_a_stopped_keeper():
    by_hand = keeper()
    env = {"SOCKSHARD_GROUP": "close"}
    stays = preloaded(*server("ident"), env=env)
    goes = preloaded(need("python3"), "-c", CLOSE, PORT, env=env, stdin=subprocess.PIPE)
    goes.says("^ready")
    until_live(2, PORT)
    stop_keeper(by_hand)
    go_on(goes)
    took = float(goes.says(r"^closed after (\S+)$")[1])
    print(f"close took {took} s")
    check(took < STILL, f"close took {took} s")
    wake_keeper(by_hand)
    until(20, "one socket", lambda: states() == ["live"] and listeners() == 1)
    answers = {int(ask()[0].split()[1]) for _ in range(50)}
    check(answers == {stays.pid} and group(PORT)["steered"], answers, status())
    check(goes.popen.poll() is None, goes.output())


@test(60, ALL)
def accepts_stay_bounded_when_the_keeper_stops_behind_a_nudge():
    by_hand = keeper()
    options = ["--restart", "no", "-p", f"{PORT},hold=60,stuck=0"]
    run(2, *server("ident"), options=options)
    pids = {s: v["pid"] for s, v in until_live(2, PORT).items()}
    for pid in pids.values():
        freeze(pid)
    waiting = clients(40, "ident")
    until(5, "two queues", lambda: sum(s["queue"] for s in live(PORT).values()) == 40)
    own = live(PORT)[1]["queue"]
    os.kill(pids[0], signal.SIGKILL)  # its connections become gifts: a nudge waits in the other
    until(5, "a nudge behind them", lambda: live(PORT)[1]["queue"] > own)
    stop_keeper(by_hand)
    os.kill(pids[1], signal.SIGCONT)
    times, left = answered(waiting, 3)
    print(f"{len(times)} answered, the last after {times[-1]:.2f} s; {len(left)} wait")
    check(len(times) >= own, f"of {own} in its own queue {len(times)} were answered")
    check(times[-1] < STILL, "accepts wait for the keeper:", [f"{took:.2f}" for took in times])
    wake_keeper(by_hand)
    # whoever accepts finds the keeper again; and is given others, whom it serves until they end
    all_answered(left + clients(5, "ident"))
    check(states() == ["live", "orphan"] and group(PORT)["lost"] == 0, status())
    back = connections([pids[1]])
    for _ in range(50):
        ask()
    check(connections([pids[1]]) == back, "another question was in vain")


# --- no keeper at all


def alone():
    """The library without its command."""
    where = folder()
    shutil.copy(LIBRARY, where)
    return os.path.join(where, "libsockshard.so")


@test(60, ALL)
def without_a_keeper_the_option_alone_shares():
    library = alone()
    for env in ({}, {"SOCKSHARD_COMMAND": "/nowhere/sockshard"}, {"SOCKSHARD_COMMAND": "/bin/false"}):
        copies = []
        for kind in ("ident", "http"):
            strict = Process(*server(kind), env={"LD_PRELOAD": library, "SOCKSHARD_STRICT": "1", **env})
            code = strict.wait(20)
            check(code == 1 and len(lines(strict)) == 1, f"strict {kind}:", code, strict.output())
            check("bind fails" in lines(strict)[0], strict.output())
            check(re.search("bind: |OSError|FileNotFoundError", strict.output()), strict.output())
        for _ in range(2):
            copies.append(Process(*server("ident"), env={"LD_PRELOAD": library, **env}))
            copies[-1].says("^ready")
            check(len(lines(copies[-1])) == 1, env, lines(copies[-1]))
            check("shared by the option alone" in lines(copies[-1])[0], lines(copies[-1]))
        print(env, lines(strict)[0])
        answers = {int(ask()[0].split()[1]) for _ in range(200)}
        check(answers == {copy.pid for copy in copies}, f"answers came from {answers}")
        for copy in copies:
            copy.signal(signal.SIGKILL)
            copy.wait()
        check(status() == {"keeper": None, "groups": []}, status())


SQUAT = """
import os, socket, sys, time
os.setgid(1234), os.setuid(1234)
held = []
for k in range(int(sys.argv[2])):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(f"\\0sockshard/{sys.argv[1]}/{k}")
    if sys.argv[3] == "listen":
        s.listen(16)
    held.append(s)
print("ready", flush=True)
time.sleep(1000)
"""


def squat(names, how):
    one = Process(need("python3"), "-c", SQUAT, os.getuid(), names, how)
    one.says("^ready")
    return one


@test(60)
def a_name_that_another_user_has_is_skipped():
    for how in ("listen", "bind"):
        other = squat(1, how)
        launcher = run(2, *server("ident"))
        until_live(2, PORT)
        check(group(PORT)["steered"], status())
        check(status()["keeper"]["pid"] != other.pid, status())
        with open("/proc/net/unix") as file:
            check(re.search(rf"@sockshard/{os.getuid()}/1$", file.read(), re.M), "not the next name")
        bare = preloaded(*server("ident", PORT + 1))
        bare.says("^ready")
        until_live(1, PORT + 1)
        check(not lines(bare), lines(bare))
        stop(launcher, PORT)
        bare.signal(signal.SIGTERM)
        bare.wait()
        last = status()["keeper"]
        os.kill(last["vault"], signal.SIGTERM)
        until(10, "the end of the keeper", lambda: ended(last["pid"]) and ended(last["vault"]))
        other.end()


@test(60)
def all_names_at_another_user_is_no_keeper():
    squat(8, "listen")
    copies = []
    for _ in range(2):
        copies.append(preloaded(*server("ident")))
        copies[-1].says("^ready")
        check(len(lines(copies[-1])) == 1, lines(copies[-1]))
    check(len({ask()[0] for _ in range(100)}) == 2)
    strict = preloaded(*server("ident"), env={"SOCKSHARD_STRICT": "1"})
    check(strict.wait() == 1 and "bind: Operation not permitted" in strict.output(), strict.output())


# --- without sock_diag


@test(90, ALL)
def without_sock_diag_survivors_flows_stay():
    by_hand = keeper("lib_no_diag")
    by_hand.says("the kernel lists no sockets")
    launcher = run(4, *server("ident"), options=["-g", "blind"])
    until_live(4, PORT)
    check(group(PORT)["steered"], status())
    sources = range(21000, 21400)

    def asked():
        return {flow: answer[0] for flow, answer in flows(tcp, PORT, sources, [HOST]).items()}

    first = asked()
    check(set(first.values()) == {"0", "1", "2", "3"}, set(first.values()))
    for turn in range(3):
        pid = live(PORT)[turn]["pid"]
        launcher.signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        until(10, "a slot that is not live", lambda: turn not in live(PORT))
        gone = asked()
        moved = [f for f in first if first[f] != str(turn) and first[f] != gone[f]]
        check(not moved, f"{len(moved)} of the survivors' flows moved")
        check(str(turn) not in gone.values(), "the dead one answers")
        launcher.signal(signal.SIGCONT)
        until_live(4, PORT)
        until(20, "the dead one's end", lambda: states() == ["live"] * 4)
        check(asked() == first, "after the restart flows moved")
    check(group(PORT)["steered"] and group(PORT)["lost"] == 0, status())
    stop(launcher, PORT)


# --- a keeper without descriptors


@test(90, ALL)
def a_keeper_without_descriptors_lives_and_works_again():
    by_hand = keeper(limit=20)
    env = {"SOCKSHARD_POLICY": f"{PORT},hold=1", "SOCKSHARD_GROUP": "few"}
    copies, poor = [], []
    for _ in range(6):
        copies.append(preloaded(*server("ident_epoll"), env=env))
        copies[-1].says("^ready")
        if lines(copies[-1]):
            poor.append(copies[-1])
    print(f"{len(poor)} of 6 are poor: {[lines(one) for one in poor]}")
    check(poor and len(poor) < 6, [copy.output() for copy in copies])
    check(all(len(lines(one)) == 1 for one in poor), [lines(one) for one in poor])
    for _ in range(200):  # one deadline for each would be more than this test's limit
        ask()
    check(by_hand.popen.poll() is None, by_hand.output())
    strict = preloaded(*server("ident"), env={**env, "SOCKSHARD_STRICT": "1"})
    check(strict.wait() == 1 and re.search("^bind: ", strict.output(), re.M), strict.output())
    print("strict:", strict.output())

    # one dies while hardly anything is left to take its connections out with, then all
    rich = [copy for copy in copies if copy not in poor]
    rich[0].signal(signal.SIGKILL)
    rich[0].wait()
    for _ in range(200):
        ask()
    for copy in copies[1:]:
        copy.signal(signal.SIGKILL)
        copy.wait()
    until(20, "an end of all", lambda: not status()["groups"] and status()["keeper"])
    again = [preloaded(*server("ident"), env=env) for _ in range(2)]
    for copy in again:
        copy.says("^ready")
        check(not lines(copy), lines(copy))
    until_live(2, PORT)
    check(group(PORT)["steered"], status())
    check({int(ask()[0].split()[1]) for _ in range(100)} == {copy.pid for copy in again})
    check(by_hand.popen.poll() is None, by_hand.output())


main()
