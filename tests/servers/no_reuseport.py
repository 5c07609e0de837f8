#!/usr/bin/env python3
"""Systems that cannot balance. SO_REUSEPORT refused to everything of ours and of the servers, by a seccomp
filter (old_kernel.c): mode shared works whole, and what asks for balance is told so. Or taken, and then
the newest socket gets everything (lib_newest.c)."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *
from programs import *

PORT = 8080
COPIES = 4
HOST = "127.0.0.1"
GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"


def refusing(*argv, error=errno.ENOPROTOOPT):
    """A command on a system that refuses SO_REUSEPORT; so for all it starts."""
    return [helper("support/old_kernel"), "-r", error, *argv]


def started(n, *argv, policy=f"{PORT}=shared", proto="tcp", error=errno.ENOPROTOOPT, **more):
    """`sockshard run` there, once all copies listen."""
    launcher = Process(*refusing(COMMAND, "run", "-n", n, "-p", policy, "--", *argv, error=error),
                       **more)
    launcher.says(rf"\b{n} of {n} copies listen", 30)
    until_live(n, PORT, proto)
    return launcher


def one_socket(port=PORT):
    """The socket that listens on the port: there is one."""
    found = {inode for inode, (kind, here, *_) in tcp_sockets().items()
             if kind == 10 and int(here.rpartition(":")[2], 16) == port}
    check(len(found) == 1, "listening sockets:", found)
    return found


def ask(question, answer, ending):
    got = tcp(PORT, question, ending=ending)
    check(got.startswith(answer) and got.endswith(ending), "answered", got)


def each_serves(*how):
    """While all others stand still."""
    for slot, entry in live(PORT).items():
        others = [s["pid"] for k, s in live(PORT).items() if k != slot]
        for pid in others:
            freeze(pid)
        ask(*how)
        check(live(PORT)[slot]["accepted"] > entry["accepted"], "it did not accept:", status())
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def nothing_is_lost(waiting, question, answer, ending):
    """All stand still while clients come; all but one are killed; who waits is answered."""
    before = one_socket()
    pids = [s["pid"] for s in live(PORT).values()]
    for pid in pids:
        freeze(pid)
    waiting = [socket.create_connection((HOST, PORT), 20) for _ in range(waiting)]
    for client in waiting:
        client.sendall(question)
    for pid in pids[1:]:
        os.kill(pid, signal.SIGKILL)
    os.kill(pids[0], signal.SIGCONT)
    for client in waiting:
        got = client.recv(65536)
        while more := not got.endswith(ending) and client.recv(65536):
            got += more
        check(got.startswith(answer) and got.endswith(ending), "answered", got)
        client.close()
    until(20, "new processes", lambda: len(live(PORT)) == COPIES
          and not {s["pid"] for s in live(PORT).values()} & set(pids[1:]))
    check(one_socket() == before and group(PORT)["lost"] == 0, "another socket, or lost:", status())


def works_whole(argv, how, waiting=40, **more):
    launcher = started(COPIES, *argv, **more)
    entry = group(PORT)
    check(entry["mode"] == "shared" and not entry["strangers"], entry)
    for slot in live(PORT).values():
        check(one_socket() <= socket_inodes(slot["pid"]), "a copy has another socket:", status())
    each_serves(*how)
    nothing_is_lost(waiting, *how)
    each_serves(*how)
    check("is not shared" not in launcher.output(), launcher.output())
    stop(launcher, PORT)


BACKLOG = 5  # of python's http.server
HTTP = (GET, b"HTTP/1.", b"hello\n")
PING = (b"PING\r\n", b"+PONG", b"\r\n")


@test(90, ALL)
def copies_of_python():
    works_whole(python_http(PORT), HTTP, BACKLOG)


@test(90)
def copies_of_python_where_it_is_an_invalid_argument():
    works_whole(python_http(PORT), HTTP, BACKLOG, error=errno.EINVAL)


@test(90)
def copies_of_nginx():
    works_whole(nginx(PORT), HTTP)


@test(90)
def copies_of_redis_where_it_is_forbidden():
    works_whole(redis(PORT, "--bind", HOST), PING, error=errno.EPERM)


@test(90)
def copies_of_node():
    works_whole(node_http(PORT), HTTP)


@test(60, ALL)
def copies_over_udp():
    launcher = started(COPIES, helper("support/ident_server"), "udp", HOST, PORT,
                       policy=f"udp/{PORT}=shared", proto="udp")
    for slot, entry in live(PORT, "udp").items():
        others = [s["pid"] for k, s in live(PORT, "udp").items() if k != slot]
        for pid in others:
            freeze(pid)
        check(int(udp(PORT).split()[1]) == entry["pid"], "who answered?")
        for pid in others:
            os.kill(pid, signal.SIGCONT)
    victim = live(PORT, "udp")[2]["pid"]
    os.kill(victim, signal.SIGKILL)
    until(20, "slot 2 again", lambda: live(PORT, "udp").get(2, {"pid": victim})["pid"] != victim)
    launcher.signal(signal.SIGTERM)
    check(launcher.wait(30) == 0, launcher.output())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((HOST, PORT))


@test(90)
def the_next_keeper_finds_the_socket():
    launcher = started(COPIES, *redis(PORT, "--bind", HOST))
    keeper, before = status()["keeper"], one_socket()
    for name in ("vault", "pid"):
        freeze(keeper[name])
    for name in ("vault", "pid"):
        os.kill(keeper[name], signal.SIGKILL)
    until(20, "all known to the next", lambda: ask(*PING) or len(live(PORT)) == COPIES)
    victim = live(PORT)[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    until(20, "the next of slot 0",
          lambda: live(PORT).get(0, {"pid": victim})["pid"] != victim)
    until_live(COPIES, PORT)
    check(one_socket() == before, "another socket")
    each_serves(*PING)
    stop(launcher, PORT)


# --- the steps of a server's start, one at a time

STEPS = """
import os, socket, sys
host = sys.argv[1]
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
for line in sys.stdin:
    word = line.strip()
    try:
        if word == "bind":
            s.bind((host, int(sys.argv[2])))
            word += " %s %d" % s.getsockname()[:2]
        elif word == "listen":
            s.listen(16)
        elif word == "connect":
            s.connect((host, int(sys.argv[2]) + 1))
        elif word == "serve":
            c = s.accept()[0]
            c.sendall(b"%d\\n" % os.getpid())
            c.close()
        elif word == "shutdown":
            s.shutdown(socket.SHUT_RDWR)
            word += " %s %d" % s.getsockname()[:2]
        elif word == "keepalive":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        elif word == "close":
            s.close()
        print("done", word, flush=True)
    except OSError as error:
        print("failed", word, error.errno, flush=True)
"""


class Steps(Process):
    def __init__(self, host=HOST, **env):
        env = {"SOCKSHARD_POLICY": f"{PORT}=shared", "LD_PRELOAD": LIBRARY, **env}
        words = [f"{key}={value}" for key, value in env.items()]
        super().__init__(*refusing("/usr/bin/env", *words, need("python3"), "-c", STEPS, host, PORT),
                         stdin=subprocess.PIPE)
        self.answers = 0

    def begin(self, word):
        self.popen.stdin.write(word.encode() + b"\n")
        self.popen.stdin.flush()
        self.answers += 1

    def answer(self):
        lines = until(20, "an answer", lambda: self.replies()[self.answers - 1:])
        return lines[0].split(" ", 1)

    def replies(self):
        return [l for l in self.output().splitlines() if l.startswith(("done ", "failed "))]

    def do(self, word):
        self.begin(word)
        done, what = self.answer()
        check(done == "done", word, "failed:", what, self.output())
        return what

    def fails(self, word, number):
        self.begin(word)
        done, what = self.answer()
        check((done, what) == ("failed", f"{word} {number}"), done, what, self.output())

    def serves(self, host=HOST):
        """It accepts; nobody else is asked to."""
        self.begin("serve")
        check(int(tcp(PORT, host=host, ending=b"\n")) == self.pid, "who answered?")
        self.answer()


def steps_at(host):
    log = os.path.join(folder(), "log")  # the keeper's too
    first, second, third = (Steps(host, SOCKSHARD_LOG=f"warn:{log}") for _ in range(3))
    name = f"bind {host} {PORT}"
    for copy in (first, second):  # nobody listens yet
        check(copy.do("bind") == name, copy.output())
    first.do("listen")
    check(third.do("bind") == name, third.output())  # the address is the first one's by now
    for copy in (third, second):
        copy.do("listen")
    until(10, "three slots", lambda: len(slots(host)) == 3)
    one_socket()
    for copy in (third, first, second):
        copy.serves(host)
    check(said(log) == [], "said:", said(log))


def said(log):
    if not os.path.exists(log):
        return []
    with open(log) as file:
        return file.read().splitlines()


def slots(host):
    name = f"[{host}]:{PORT}" if ":" in host else f"{host}:{PORT}"
    return [s for g in status()["groups"] if g["address"] == name for s in g["slots"]]


@test(60, ALL)
def a_copy_has_its_name_before_it_listens():
    steps_at(HOST)


@test(60)
def a_copy_has_its_name_before_it_listens_over_ipv6():
    steps_at("::1")


@test(60)
def who_binds_while_another_listens_may_be_the_only_one_when_it_listens_itself():
    first, second = Steps(), Steps()
    first.do("bind")
    first.do("listen")
    second.do("bind")
    first.do("close")
    until(10, "nobody listens", lambda: refuses(PORT))
    second.do("listen")
    second.serves()
    check(len(until_live(1, PORT)) == 1, status())


@test(60)
def who_binds_and_goes_away_leaves_the_others_as_they_are():
    first = Steps()
    first.do("bind")
    first.do("listen")
    before = one_socket()
    for last in ("close", "shutdown"):
        other = Steps()
        other.do("bind")
        if last == "shutdown":
            other.fails(last, errno.ENOTCONN)  # as a bound socket does
        else:
            other.do(last)
        other.popen.stdin.close()
        check(other.wait() == 0, other.output())
    other = Steps()
    other.do("bind")
    other.fails("connect", errno.EADDRINUSE)  # never from another port than the server asked for
    check(one_socket() == before and len(live(PORT)) == 1, status())
    first.serves()


@test(60)
def a_copy_that_shuts_its_listener_down_ends_nobody_elses():
    copies = [Steps(), Steps()]
    for copy in copies:
        copy.do("bind")
        copy.do("listen")
    before = one_socket()
    for _ in range(3):
        check(copies[1].do("shutdown") == f"shutdown {HOST} {PORT}", copies[1].output())
        copies[1].fails("serve", errno.EINVAL)
        copies[0].serves()
        copies[1].do("listen")
        copies[1].serves()
    check(one_socket() == before, "another socket")
    for copy in reversed(copies):
        copy.do("shutdown")
    until(10, "nobody listens", lambda: refuses(PORT))


@test(60)
def options_that_differ_are_said_and_no_others():
    log = os.path.join(folder(), "log")
    copies = [Steps(SOCKSHARD_LOG=f"warn:{log}") for _ in range(3)]
    for copy in copies:
        copy.do("bind")
        if copy is copies[2]:
            copy.do("keepalive")
        copy.do("listen")
    until_live(3, PORT)
    lines = said(log)
    check(len(lines) == 1 and re.search(r"slot 2 has another SO_KEEPALIVE", lines[0]), lines)


@test(60)
def without_a_keeper_the_listen_fails_as_it_would_without_us():
    first, second = Steps(), Steps()
    first.do("bind")
    first.do("listen")
    second.do("bind")
    keeper = status()["keeper"]
    for name in ("vault", "pid"):
        freeze(keeper[name])
    second.fails("listen", errno.EADDRINUSE)
    check("the keeper does not answer" in second.output(), second.output())
    first.begin("serve")
    check(int(tcp(PORT, ending=b"\n")) == first.pid, "who answered?")
    for name in ("vault", "pid"):
        os.kill(keeper[name], signal.SIGCONT)


CONNECTS = """
import errno, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", int(sys.argv[1])))
for call in (lambda: s.connect(("127.0.0.1", 9)), lambda: s.shutdown(socket.SHUT_RDWR)):
    try:
        call()
        print("worked", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""


@test(60)
def a_udp_copy_that_connects_does_not_connect_everybodys_socket():
    launcher = started(1, helper("support/ident_server"), "udp", HOST, PORT,
                       policy=f"udp/{PORT}=shared", proto="udp")
    env = {"SOCKSHARD_POLICY": f"udp/{PORT}=shared", "LD_PRELOAD": LIBRARY,
           "SOCKSHARD_GROUP": group(PORT, "udp")["group"]}
    code, out, err = call(*refusing(need("python3"), "-c", CONNECTS, PORT), env=env)
    check(code == 0 and out.split() == ["EADDRINUSE", "EADDRINUSE"], out, err)
    pid = live(PORT, "udp")[0]["pid"]
    check({udp(PORT).split()[1] for _ in range(20)} == {str(pid).encode()}, "who answers?")
    launcher.signal(signal.SIGTERM)
    check(launcher.wait(30) == 0, launcher.output())


# --- balance

WAY_OUT = f"tcp/{PORT}=shared"


@test(60, ALL)
def a_bind_that_cannot_be_balanced_says_so_once_and_is_the_servers_own():
    first = Steps(SOCKSHARD_POLICY=f"{PORT}")
    first.do("bind")
    first.do("listen")
    lines = [l for l in first.output().splitlines() if l.startswith("sockshard:")]
    check(len(lines) == 1 and "SO_REUSEPORT is refused here" in lines[0], lines)
    check(WAY_OUT in lines[0], lines)
    first.serves()
    check(not group(PORT), "a group:", status())
    second = Steps(SOCKSHARD_POLICY=f"{PORT}")
    second.fails("bind", errno.EADDRINUSE)


@test(60)
def strict_the_bind_fails():
    one = Steps(SOCKSHARD_POLICY=f"{PORT}", SOCKSHARD_STRICT="1")
    one.fails("bind", errno.EOPNOTSUPP)
    lines = [l for l in one.output().splitlines() if l.startswith("sockshard:")]
    check(len(lines) == 1 and WAY_OUT in lines[0] and "SOCKSHARD_STRICT=1" in lines[0], lines)


@test(60)
def run_says_it_before_it_starts_anything():
    argv = [COMMAND, "run", "-n", 2, "-p", PORT, "--", need("sh"), "-c", "echo started; exit 3"]
    code, out, err = call(*refusing(*argv))
    lines = err.splitlines()
    check(code == 3 and "started" in out, code, out, err)
    check("SO_REUSEPORT is refused here" in lines[0] and WAY_OUT in lines[1], lines)
    code, out, err = call(*refusing(*argv), env={"SOCKSHARD_STRICT": "1"})
    check(code == 69 and "started" not in out and WAY_OUT in err, code, out, err)
    shared = [word if word != PORT else WAY_OUT for word in argv]
    code, out, err = call(*refusing(*shared), env={"SOCKSHARD_STRICT": "1"})
    check(code == 3 and "SO_REUSEPORT" not in err, code, out, err)


def checked(*words, **env):
    code, out, err = call(*words, COMMAND, "check", "-p", f"{PORT};{PORT + 1}=shared", env=env)
    rules = out.partition("policy (-p)")[2].splitlines()
    check(len(rules) > 3, out, err)
    return code, out, rules


@test(60, ALL)
def check_says_no_to_balance_and_yes_to_shared():
    code, out, rules = checked(*refusing())
    check(code == 69, "exit status", code)
    check(rules[1].startswith("  no   tcp") and "SO_REUSEPORT is refused" in rules[1], rules)
    check(rules[2].endswith(WAY_OUT), rules)
    check(rules[3].startswith("  yes  tcp") and "shared" in rules[3], rules)
    code, out, err = call(*refusing(COMMAND, "check", "-p", WAY_OUT))
    check(code == 0, code, out, err)


@test(60)
def check_measures_that_the_newest_gets_everything():
    code, out, rules = checked(LD_PRELOAD=helper("preload/lib_newest"))
    check(code == 69, "exit status", code)
    check(re.search(r"gave 0, 0 and 60$", out, re.M), out)
    check(rules[1].startswith("  no   tcp"), rules)
    check("the kernel does not balance the listeners" in rules[1], rules)
    check(rules[2].endswith(WAY_OUT) and rules[3].startswith("  yes  tcp"), rules)
    code, out, rules = checked()
    check(code == 0 and rules[1].startswith("  yes  tcp"), "without it:", code, out)


main()
