"""What the tests of whole servers share: start `sockshard run` or a preloaded server, ask `status`,
make connections from chosen source ports. Waits for events with a deadline, never for time alone.

A test script registers functions with @test() and ends with main(); `script --list` prints one
line a test: name, time limit in seconds, variants (tests/run explains them)."""

import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD", os.path.join(os.path.dirname(TESTS), "build"))
COMMAND = os.path.join(BUILD, "sockshard")
LIBRARY = os.path.join(BUILD, "libsockshard.so")
VARIANT = os.environ.get("VARIANT", "plain")
ALL = "plain user box"

_tests = {}
_started = []


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def check(condition, *words):
    if not condition:
        raise Failure(" ".join(str(word) for word in words))


def skip(*words):
    """This system cannot show it: tests/run says `skip`."""
    raise Skip(" ".join(str(word) for word in words))


def need(tool):
    """Path of a program; its absence is a failure that names it."""
    path = shutil.which(tool)
    check(path, f"missing program: {tool} (`make deps` installs it)")
    return path


def helper(path):
    """A helper built from tests/PATH.c"""
    path = os.path.join(BUILD, "tests", path)
    check(os.path.exists(path), f"not built: {path} (`make helpers`)")
    return path


def test(limit=60, variants="plain", name=None):
    def register(function):
        _tests[name or function.__name__] = (function, limit, variants)
        return function

    return register


def main():
    if sys.argv[1:] == ["--list"]:
        for name, (_, limit, variants) in _tests.items():
            print(name, limit, variants)
        return
    if len(sys.argv) != 2 or sys.argv[1] not in _tests:
        sys.exit(f"usage: {sys.argv[0]} --list | TEST")
    status = 0
    try:
        _tests[sys.argv[1]][0]()
    except Skip as reason:
        print("SKIPPED:", reason, flush=True)
    except Failure as failure:
        print("FAILED:", failure, flush=True)
        traceback.print_exc()
        status = 1
    except Exception:
        traceback.print_exc()
        status = 1
    for started in reversed(_started):
        started.end(quiet=status == 0)
    sys.exit(status)


def until(seconds, what, predicate, pause=0.02):
    """The first true value of predicate(), asked again and again; its absence is a failure."""
    end = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            print("status:", call(COMMAND, "status", "--json")[1])
            raise Failure(f"{seconds} s have passed without: {what}")
        time.sleep(pause)


def folder():
    """A new folder that every user may enter and write to."""
    path = tempfile.mkdtemp()
    os.chmod(path, 0o777)
    return path


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


class Process:
    """A program with its output in a file; stands in its own session, ended by pid."""

    def __init__(self, *argv, env=None, stdin=subprocess.DEVNULL, **more):
        self.argv = [str(word) for word in argv]
        self.path = os.path.join(folder(), "output")
        environment = dict(os.environ)
        for key, value in (env or {}).items():
            if value is None:
                environment.pop(key, None)
            else:
                environment[key] = str(value)
        with open(self.path, "wb") as output:
            self.popen = subprocess.Popen(
                self.argv, stdin=stdin, stdout=output, stderr=output, env=environment, **more
            )
        self.pid = self.popen.pid
        _started.append(self)

    def output(self):
        with open(self.path, errors="replace") as file:
            return file.read()

    def says(self, pattern, seconds=20, forks=False):
        """Wait until the output matches; returns the match. forks: the process itself may end."""

        def seen():
            found = re.search(pattern, self.output(), re.M)
            if not found and not forks and self.popen.poll() is not None:
                found = re.search(pattern, self.output(), re.M)
                check(found, f"{self.argv} ended with {self.popen.returncode}: {self.output()}")
            return found

        return until(seconds, f"{pattern!r} in what {self.argv} says", seen)

    def wait(self, seconds=20):
        """Exit status as a shell has it."""
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.argv} still runs after {seconds} s: {self.output()}")
        return status if status >= 0 else 128 - status

    def signal(self, number):
        self.popen.send_signal(number)

    def end(self, quiet=True):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        if not quiet:
            print(f"--- output of {' '.join(self.argv)}", self.output(), sep="\n", flush=True)


def preloaded(*argv, env=None, before=(), after=(), **more):
    """A program with our library (between others) and nothing else of ours."""
    libraries = [*before, LIBRARY, *after]
    return Process(*argv, env={"LD_PRELOAD": ":".join(libraries), **(env or {})}, **more)


def run(n, *argv, options=(), env=None, seconds=30, **more):
    """`sockshard run`, once all copies listen."""
    launcher = Process(COMMAND, "run", "-n", n, *options, "--", *argv, env=env, **more)
    launcher.says(rf"\b{n} of {n} copies listen", seconds)
    return launcher


def call(*argv, seconds=30, env=None, text=True, **more):
    """A program's whole run: status, output, errors."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=seconds,
        env=environment,
        text=text,
        **more,
    )
    return done.returncode, done.stdout, done.stderr


def stop(launcher, *ports):
    """TERM ends all copies, status 0, and nobody listens on their ports any more."""
    launcher.signal(signal.SIGTERM)
    check(launcher.wait(30) == 0, "run ended with", launcher.popen.returncode, launcher.output())
    for port in ports:
        until(2, f"a free port {port}", lambda: refuses(port))


def children(pid):
    """its child processes, in the order of their numbers"""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry))
        except (OSError, ValueError):
            continue
    return sorted(found)


def refuses(port, host="127.0.0.1"):
    """Does nobody listen? Ends with RST: else a server that ends at the same moment may leave its end of the
    connection in TIME_WAIT, which is in the way of the next one that does not set SO_REUSEADDR."""
    try:
        with socket.create_connection((host, port), 5) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except ConnectionRefusedError:
        return True
    except OSError:  # reset: somebody did until now
        pass
    return False


# --- status


def status():
    code, out, err = call(COMMAND, "status", "--json")
    check(code in (0, 69), f"status --json ended with {code}: {err}")
    try:
        return json.loads(out)
    except ValueError:
        raise Failure(f"status --json printed no JSON: {out!r} {err!r}")


def kill_keeper():
    """Both its processes, so that neither makes the other anew. Returns what `status` said of it."""
    keeper = status()["keeper"]
    pids = (keeper["vault"], keeper["pid"])
    for pid in pids:
        freeze(pid)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(5, "the end of the keeper", lambda: all(ended(pid) for pid in pids))
    return keeper


def group(port, proto="tcp"):
    """The group of a port, or None; where IPv4 and IPv6 have one each: that of IPv4."""
    ending = f":{port}"
    found = [
        g for g in status()["groups"] if g["proto"] == proto and g["address"].endswith(ending)
    ]
    found.sort(key=lambda g: g["address"].startswith("["))
    check(len(found) < 2 or found[1]["address"].startswith("["), "several groups:", found)
    return found[0] if found else None


def live(port, proto="tcp"):
    """slot -> its entry, of the slots that are live"""
    found = group(port, proto)
    return {s["slot"]: s for s in found["slots"] if s["state"] == "live"} if found else {}


def until_live(n, port, proto="tcp", seconds=20):
    return until(
        seconds,
        f"{n} live slots on {proto} port {port}",
        lambda: len(live(port, proto)) == n and live(port, proto),
    )


# --- clients

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: end with RST, so that the same ports can be used again


def tcp(port, message=b"", host="127.0.0.1", source=0, ending=None, seconds=20):
    """One connection: send, receive until the answer ends with `ending` (b"": until the server closes;
    None: once), close with RST. Returns what came."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if source:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind((host, source))
        client.connect((host, port))
        if message:
            client.sendall(message)
        answer = client.recv(65536)
        while ending is not None and (not ending or not answer.endswith(ending)):
            more = client.recv(65536)
            if not more:
                break
            answer += more
        return answer


def udp(port, message=b"?", host="127.0.0.1", source=0, tries=5):
    """One question from a socket of its own. A lost datagram (a shard just died) is asked again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.bind((host, source))
        for _ in range(tries):
            client.sendto(message, (host, port))
            try:
                return client.recv(2048)
            except socket.timeout:
                continue
        raise Failure(f"no answer from udp port {port} to {host} port {source}")


def flows(ask, port, sources, hosts):
    """(host, source port) -> "slot pid" as ident_server answers it"""
    return {
        (host, source): tuple(ask(port, b"?", host=host, source=source).decode().split())
        for host in hosts
        for source in sources
    }


def side_by_side(n, jobs, do):
    """do(*job) of every job, n at a time. job -> its result; all have ended when failures are told"""
    done, failed = {}, []

    def one(job):
        try:
            done[job] = do(*job)
        except Exception as error:
            failed.append(f"{job}: {error}")

    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        list(pool.map(one, jobs))
    check(not failed, f"{len(failed)} of {len(jobs)} failed:\n" + "\n".join(failed))
    return done


def state(pid):
    """The letter of proc(5); X: it is not there."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def ended(pid):
    """Has the process ended (a zombie counts)?"""
    return state(pid) in "ZX"


def freeze(pid):
    """Stopped for sure: kill(2) returns before the process has taken note."""
    os.kill(pid, signal.SIGSTOP)
    until(5, f"a stopped process {pid}", lambda: state(pid) == "T", 0.001)
