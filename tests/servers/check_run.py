#!/usr/bin/env python3
"""`sockshard check --run` with real programs: what it says of them, that it happens in a network of its
own, and that nothing of it is left."""

import os
import re
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8080
PYTHON = "/usr/bin/python3"
TOKEN = "SOCKSHARD_TEST_TOKEN"  # in the environment of everything of a dry run

LISTEN = f"""
import os, select, signal, socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", {PORT}))
s.listen(16)
"""

DOUBLE_FORK = LISTEN + """
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True: s.accept()[0].close()
"""

FORK_PER_CLIENT = LISTEN + """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    c = s.accept()[0]
    if os.fork() == 0:
        c.close()
        os._exit(0)
    c.close()
"""

# as php-fpm with pm=ondemand: a process is made when a client is there
WATCHES = LISTEN + """
while True:
    select.select([s], [], [])
    if os.fork() == 0:
        s.accept()[0].close()
        os._exit(0)
    os.wait()
"""


def left():
    """Processes of a dry run that still run."""
    found = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if TOKEN.encode() in file.read() and not ended(int(pid)):
                    found.append(pid)
        except OSError:
            pass
    return found


def scratch():
    """What dry runs leave in the folder for temporary files."""
    return [n for n in os.listdir(os.environ["TMPDIR"]) if n.startswith("sockshard-check")]


def matched(report, patterns):
    return all(re.search(pattern, report, re.M) for pattern in patterns)


def dry(*argv, wants=(), options=(), code=0, seconds=2, env=None):
    """The report of a dry run, with the patterns that it wants in it; by then all of it has ended. What a
    busy machine does not get done in so many seconds has more of them, twice."""
    env = {TOKEN: "1", **(env or {})}
    for given in (seconds, 4 * seconds, 10 * seconds):
        got, out, err = call(COMMAND, "check", "--run", "--seconds", given, *options, "--", *argv,
                             env=env, seconds=given + 40)
        check(not left(), "still there:", left())
        check(not scratch(), "still there:", scratch())
        report = out[out.find("dry run ("):] if "dry run (" in out else ""
        if got == code and matched(report, wants):
            break
        print(f"in {given} s: {got} {out}\n{err}", flush=True)
    check(got == code, f"check --run {argv} ended with {got}: {out}\n{err}")
    has(report, *wants)
    return err, out


def has(report, *patterns):
    for pattern in patterns:
        check(matched(report, [pattern]), f"{pattern!r} is not in:\n{report}")


@test(120, "plain user")
def a_server_that_does_not_fork():
    taken = socket.create_server(("127.0.0.1", PORT))  # in our network, not in the dry run's
    err, _ = dry(PYTHON, "-u", "-m", "http.server", "-b", "127.0.0.1", PORT, wants=(
        rf"^  yes  tcp 127\.0\.0\.1:{PORT}, bound by python3 pid \d+: shared by rule 1, balance$",
        r"^       1 process accepts, by poll \(python3: pid \d+\)$",
        r"^       `sockshard run -n N` runs N copies of it$", r"it does not fork"))
    has(err, "Serving HTTP")
    taken.settimeout(0.1)
    try:
        taken.accept()
        raise Failure("a client of the dry run came to us")
    except socket.timeout:
        pass
    check(not status()["groups"], "there is a group in our network:", status())


@test(180, "plain user")
def nginx_with_four_workers():
    where = folder()
    config = write(os.path.join(where, "conf"), f"""
        daemon off; worker_processes 4; pid {where}/pid; error_log stderr;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {where}/1; proxy_temp_path {where}/2; fastcgi_temp_path {where}/3;
            uwsgi_temp_path {where}/4; scgi_temp_path {where}/5;
            server {{ listen 127.0.0.1:{PORT}; listen 127.0.0.1:{PORT + 1}; }}
        }}""")
    dry(need("nginx"), "-c", config, "-e", "stderr", wants=(
        *(rf"^  yes  tcp 127\.0\.0\.1:{port}, bound by nginx pid \d+: shared by rule 1"
          for port in (PORT, PORT + 1)),
        r"^       4 processes accept from 4 sockets, by epoll \(nginx: pids \d+, \d+, \d+, \d+\)$",
        r"^       each gets a queue of its own \(SOCKSHARD_WORKERS=own\)$",
        r"^       slots: 0 pid \d+ of \d+, 1 pid \d+ of \d+, 2 pid ", r"it made 4 processes by fork"))


@test(180, "plain user")
def gunicorn_with_three_workers():
    where = folder()
    write(os.path.join(where, "app.py"), "def app(e, s):\n    s('200 OK', [])\n    return [b'x']\n")
    dry(need("gunicorn"), "-w", 3, "-b", f"127.0.0.1:{PORT}", "--chdir", where,
        "--worker-tmp-dir", where, "app:app", seconds=4, wants=(
        rf"^  yes  tcp 127\.0\.0\.1:{PORT}, bound by \S+ pid \d+: shared by rule 1",
        r"^       3 processes accept from 3 sockets, by (select|poll|epoll) ",
        r"each gets a queue of its own", r"it made 3 processes by fork"))


@test(180, "plain user")
def a_daemon_that_forks_twice_and_ignores_TERM():
    dry(PYTHON, "-c", DOUBLE_FORK, wants=(
        rf"^  yes  tcp 127\.0\.0\.1:{PORT}, bound by python3 pid \d+",
        r"1 process accepts, by accept alone", r"it made 2 processes by fork",
        r"the process that was started: ended with status 0 after \d+ ms; others went on: a daemon"))


@test(180, "plain user")
def a_server_that_forks_for_each_client():
    dry(PYTHON, "-c", FORK_PER_CLIENT, wants=(
        r"1 process accepts, by accept alone .*, and makes one for each client$",
        r"it made 8 processes by fork"))


@test(180, "plain user")
def a_parent_that_watches_while_its_children_accept():
    dry(PYTHON, "-c", WATCHES, wants=(
        r"python3 pid \d+ waits for clients, and processes it makes accept \(python3: pids? ",
        r"they share the queue of this copy"))


@test(60, "plain user")
def a_program_that_never_listens():
    dry(need("sleep"), 100, code=69, seconds=1,
        wants=(r"^  no   it did not listen", r"it does not fork"))


@test(60, "plain user")
def a_program_that_ends_at_once_with_an_error():
    before = time.monotonic()
    err, _ = dry(need("sh"), "-c", "echo it is broken >&2; exit 3", code=69, seconds=30, wants=(
        r"^  no   the command: ended with status 3 after \d+ ms, before it listened$",))
    check(time.monotonic() - before < 15, "it was waited for")
    has(err, "it is broken")
    dry(need("sh"), "-c", "kill -9 $$", code=69,
        wants=(r"^  no   the command: killed by signal 9 after",))
    _, out = dry("/nonexistent/program", code=127)
    check("dry run" not in out, out)


@test(180, "plain user")
def what_rules_leave_alone():
    script = LISTEN + f"""
def more(port, *words):
    t = socket.socket(*words); t.bind(("127.0.0.1", port)); t.listen(); return t
a, b = more({PORT + 1}), more(0)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", {PORT}))
s.accept()
c = more({PORT + 2})
time.sleep(60)
"""
    where = r"127\.0\.0\.1"
    dry(PYTHON, "-c", script, options=["-p", f"{PORT + 1}=off;*/*"], wants=(
        rf"^  yes  tcp {where}:{PORT}, .*: shared by rule 2",
        rf"^  yes  udp {where}:{PORT}, .*: shared by rule 2",
        rf"^  note tcp {where}:{PORT + 1}, .*: its rule says off",
        rf"^  note tcp {where}:{PORT + 2}, .*: bound after the first accept",
        rf"^  note tcp {where}:\d+, .*: port 0 was asked for"))
    dry(PYTHON, "-c", script, options=["-p", "9"], wants=(
        rf"^  note tcp {where}:{PORT}, .*: no rule covers it: left alone",))


@test(60, "plain user")
def a_static_program_is_refused_and_not_started():
    _, out = dry("/sbin/ldconfig", code=69)  # static in Debian
    has(out, "is a static program")
    check("dry run" not in out, out)


@test(60)
def without_namespaces_the_command_is_not_started():
    where = folder()
    made = os.path.join(where, "started")
    script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-sys_admin "$@"'
    got, out, err = call(need("unshare"), "-r", "sh", "-c", script, "sh", COMMAND, "check", "--run",
                         "--", need("touch"), made)
    check(got == 69, got, out, err)
    has(err, r"^sockshard: check --run: a user and a network namespace is refused here \(.+\).*"
        r"the command was not started$")
    check("dry run" not in out, out)
    check(not os.path.exists(made), "it was started")


@test(60, "box")
def root_without_capabilities_cannot_have_a_network_and_is_told():
    made = os.path.join(folder(), "started")
    got, out, err = call(COMMAND, "check", "--run", "--", need("touch"), made)
    check(got == 69, got, out, err)
    has(err, r"^sockshard: check --run: .* is refused here \(.+\).*the command was not started$")
    check(not os.path.exists(made), "it was started")


def started():
    """A dry run of a stubborn daemon, once that listens."""
    run_it = Process(COMMAND, "check", "--run", "--seconds", 60, "--", PYTHON, "-c",
                     DOUBLE_FORK.replace("while True", "print('deaf', flush=True)\nwhile True"),
                     env={TOKEN: "1"})
    run_it.says("^deaf")
    check(len(left()) >= 4, "processes:", left())
    return run_it


@test(60, "plain user")
def a_dry_run_that_is_ended_early_leaves_nothing():
    for number in (signal.SIGTERM, signal.SIGINT):
        dry_run = started()
        dry_run.signal(number)
        check(dry_run.wait() == 128 + number, dry_run.popen.returncode)
        check(not left() and not scratch(), left(), scratch())


@test(60, "plain user")
def a_dry_run_whose_either_process_is_killed_leaves_nothing():
    dry_run = started()
    dry_run.signal(signal.SIGKILL)
    until(15, "the end of all processes", lambda: not left())
    check(not scratch(), scratch())

    dry_run = started()
    with open(f"/proc/{dry_run.pid}/task/{dry_run.pid}/children") as file:
        watcher = int(file.read().split()[0])
    os.kill(watcher, signal.SIGKILL)
    check(dry_run.wait() == 128 + signal.SIGKILL, dry_run.popen.returncode)
    check(not left(), left())


main()
