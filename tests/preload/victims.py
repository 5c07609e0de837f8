#!/usr/bin/env python3
"""Servers with one bad habit each (the C files beside this one), preloaded: two copies on one port must
both be served by, and behave as they do without us."""

import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8100
BOTH = "plain user"


def ask(port=PORT):
    """The process id that answers a new connection."""
    return int(tcp(port))


def native(name, *args):
    """The habit itself is healthy: without us the victim serves."""
    victim = Process(helper(f"preload/{name}"), PORT, *args)
    victim.says("^ready", forks=True)
    check(ask() > 0)
    victim.end()
    forked = pids_of(name)
    for pid in forked:
        os.kill(pid, signal.SIGKILL)
    # not by pids_of: what a process executes is gone before its descriptors are, and so its port
    until(5, f"the end of {name}", lambda: all(ended(pid) for pid in forked))


def pids_of(name):
    """Processes of a victim, forked ones too."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/exe") == helper(f"preload/{name}"):
                found.append(int(entry))
        except OSError:
            continue
    return found


def two(name, *args, steered=True, forks=False, **how):
    copies = [preloaded(helper(f"preload/{name}"), PORT, *args, **how) for _ in range(2)]
    for copy in copies:
        copy.says("^ready", 40, forks=forks)
    if steered:
        until_live(2, PORT)
        check(group(PORT)["steered"], "not steered:", status())
    return copies


def both_serve(pids=None, n=200):
    """Every connection is answered, and by both."""
    answers = [ask() for _ in range(n)]
    found = set(answers)
    check(len(found) == 2, f"{n} answers came from {found}")
    check(not pids or found == set(pids), f"answers came from {found}, not {pids}")
    return found


def habit(name, *args, steered=True, **how):
    """The whole test of most victims."""
    native(name, *args)
    copies = two(name, *args, steered=steered, **how)
    both_serve([copy.pid for copy in copies])
    for copy in copies:
        check(not children(copy.pid), "has a child that it did not start:", children(copy.pid))
    return copies


def simple_test(name, *args, title=None, limit=60, **how):
    test(limit, BOTH, title or "_".join([name, *args]))(lambda: habit(name, *args, **how))


simple_test("simple", title="accepts_with_null_addresses")
for method in ("loop", "range", "closefrom", "syscall", "asm"):
    simple_test("close_all", method, title=f"closes_all_descriptors_by_{method}")
simple_test("dup_close", title="moves_its_listener_by_dup_and_close")
simple_test("dup_over", title="ends_its_listener_by_dup2_over_it")
simple_test("rounds", "1", title="binds_and_closes_1000_times_without_a_leak")
simple_test("rounds", "8", title="binds_and_closes_in_8_threads", limit=120)
simple_test("vfork", title="closes_in_vforked_children")
simple_test("fork_close", title="closes_and_exits_in_forked_children")
simple_test("epoll_early", title="registers_with_epoll_before_listen")
simple_test("rebind", title="a_second_bind_of_its_address_is_refused",
            env={"SOCKSHARD_POLICY": "*/*:*"})
simple_test("option_off", title="clears_the_option_itself")
simple_test("relisten", title="listens_again_after_shutdown")
simple_test("rlimit", title="has_no_descriptor_left", steered=False)


@test(60, BOTH)
def listens_in_a_library_constructor():
    library = helper("preload/lib_ctor")  # constructors of preloads run from the last to the first
    copies = two("ctor", after=[library], env={"VICTIM_PORT": PORT})
    both_serve([copy.pid for copy in copies])


@test(60, BOTH)
def a_library_below_closes_by_syscall():
    habit("close_all", "range", after=[helper("preload/lib_close")])


def hostile_malloc(kind):
    # its constructor, the switch, runs before ours
    how = {"after": [helper("preload/lib_malloc")], "env": {"VICTIM_MALLOC": kind}}
    copies = two("simple", steered=False, **how)
    both_serve([copy.pid for copy in copies])


for malloc in ("null", "caller", "reenter"):
    test(60, BOTH, f"malloc_that_is_hostile_by_{malloc}")(lambda kind=malloc: hostile_malloc(kind))


def forked_and_ended(*args):
    native("fork_exit", *args)
    copies = two("fork_exit", *args, steered=False, forks=True)
    for copy in copies:
        check(copy.wait() == 0, "the listening process did not end:", copy.output())
    until(10, "two accepting processes", lambda: len(pids_of("fork_exit")) == 2)
    # the keeper hears of the accepting process at its first accept
    until(10, "answers from both", lambda: len({ask() for _ in range(20)}) == 2)
    both_serve(pids_of("fork_exit"))


test(60, BOTH, "listener_exits_after_forking_the_acceptor")(lambda: forked_and_ended())
test(60, BOTH, "listener_ends_by__exit_after_forking_the_acceptor")(lambda: forked_and_ended("raw"))


@test(60, BOTH)
def executes_itself_with_its_listener():
    native("exec_keep")
    copies = two("exec_keep", steered=False)
    until(10, "answers from both", lambda: len({ask() for _ in range(20)}) == 2)
    both_serve([copy.pid for copy in copies])


@test(60, BOTH)
def seccomp_kills_new_kinds_of_calls():
    copies = two("seccomp")

    def moved_on():
        try:
            ask()
        except ConnectionError:  # both between close and listen
            return False
        return all("seccomp" in open(f"/proc/{c.pid}/comm").read() for c in copies)

    until(10, "connections to both", moved_on)
    for _ in range(200):
        until(5, "an answer", lambda: answered())
    for copy in copies:
        check(copy.popen.poll() is None, "was killed:", copy.popen.poll(), copy.output())


def answered():
    try:
        return ask()
    except ConnectionError:
        return 0


def port_is_free(port=PORT):
    """As a program sees it that knows nothing of sharing and does not set SO_REUSEADDR."""
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError:
            return False
        other.listen(1)
        return True


def end_listener(server):
    server.popen.stdin.write(b"\n")
    server.popen.stdin.flush()
    server.says("^closed")


def ends_its_last_listener(how):
    server = preloaded(helper("preload/close_frees"), PORT, how, stdin=subprocess.PIPE)
    server.says("^ready")
    until_live(1, PORT)
    ask()
    end_listener(server)
    check(refuses(PORT), "somebody still listens; status:", status())
    if how not in ("shutdown", "connect"):  # then the address is still the server's
        check(port_is_free(), "the port is still taken; status:", status())
    server.popen.stdin.close()
    check(server.wait() == 0, server.output())


def ends_one_of_four(how):
    first = preloaded(helper("preload/close_frees"), PORT, how, stdin=subprocess.PIPE)
    first.says("^ready")  # the first of the kernel's array: the last one moves into its place
    for _ in range(3):
        preloaded(helper("preload/simple"), PORT).says("^ready")
    until_live(4, PORT)
    before = {source: int(tcp(PORT, source=source)) for source in range(20000, 20300)}
    end_listener(first)
    check(len(live(PORT)) == 3, "not three live slots:", status())
    after = {source: int(tcp(PORT, source=source)) for source in before}
    moved = [s for s in before if before[s] != after[s] and before[s] != first.pid]
    check(not moved, f"{len(moved)} flows of the others moved; status:", status())
    check(first.pid not in after.values(), "it still serves")


for way in ("close", "range", "closefrom", "syscall", "dup2", "shutdown", "connect"):
    test(60, BOTH, f"ending_the_last_listener_by_{way}_frees_the_port_at_once")(
        lambda way=way: ends_its_last_listener(way)
    )
    test(60, BOTH, f"ending_one_of_four_by_{way}_moves_only_its_flows")(
        lambda way=way: ends_one_of_four(way)
    )


@test(60, BOTH)
def a_clean_exit_frees_the_port_at_once():
    server = preloaded(helper("preload/simple"), PORT, 1)
    server.says("^ready")
    until_live(1, PORT)
    ask()
    check(server.wait() == 0, server.output())
    check(port_is_free(), "the port is still taken after exit(3); status:", status())


@test(60, BOTH)
def a_port_searcher_finds_a_port_of_its_own():
    # both copies search once they have accepted, from the shared port and from PORT + 100 on
    copies = two("port_search")
    for copy in copies:
        until(20, "the end of both searches", lambda: ask() and "found" in copy.output())
    found = [copy.says(r"^found (\d+) (\d+)$").groups() for copy in copies]
    numbers = [int(number) for pair in found for number in pair]
    check(len(set(numbers)) == 4, "two found the same port:", numbers)
    check(set(numbers) == {PORT + 1, PORT + 2, PORT + 100, PORT + 101}, "found", numbers)
    both_serve([copy.pid for copy in copies])


def fixed_source_port(proto):
    words = ["udp"] if proto == "udp" else []
    server = Process(helper("support/ident_server"), proto, "127.0.0.1", PORT) if words else \
        Process(helper("preload/simple"), PORT)
    server.says("^ready")
    client = [helper("preload/connect_bound"), PORT, PORT + 1, *words]
    env = {"SOCKSHARD_POLICY": "*/*:*"}
    seen = []
    for start in (Process, preloaded, preloaded):
        first = start(*client, env=env, stdin=subprocess.PIPE)
        first.says("^answer came")
        if start is preloaded:
            check(not group(PORT + 1, proto), "is in a group:", status())
        # another client of that port, while the first uses it: refused as without us
        other = start(*client, env=env)
        check(other.wait() == 1, other.output())
        first.popen.stdin.close()
        check(first.wait() == 0, first.output())
        seen.append((first.output(), other.output()))
    check(seen[0] == seen[1] == seen[2], "native and preloaded differ:", seen)


for protocol in ("tcp", "udp"):
    test(60, BOTH, f"a_{protocol}_client_with_a_fixed_source_port_is_untouched")(
        lambda protocol=protocol: fixed_source_port(protocol)
    )


@test(60, BOTH)
def our_log_never_reaches_a_client_on_descriptor_2():
    server = preloaded(helper("preload/stderr_gone"), PORT, env={"SOCKSHARD_LOG": "debug"})
    server.says("^ready")
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", PORT), 10) as client:
            first = client.recv(4096)
            client.shutdown(socket.SHUT_WR)
            rest = client.recv(4096)
        check(first + rest == b"%d\n" % server.pid, "a client got", first, rest)


@test(60, BOTH)
def overwrites_its_environment_before_bind():
    native("environ_gone")
    launcher = run(2, helper("preload/environ_gone"), PORT, options=["-g", "named"])
    check(sorted(live(PORT)) == [0, 1] and group(PORT)["group"] == "named", status())
    both_serve()
    check(launcher.popen.poll() is None)


simple_test("high_fd", title="listens_on_the_highest_descriptors")


LEFT_ALONE = """
import socket, sys
def listener(port):
    s = socket.socket()
    s.bind(("127.0.0.1", port))
    s.listen(8)
    return s
own, any_port = listener(int(sys.argv[1])), listener(0)
print("port", any_port.getsockname()[1], flush=True)
for s in (any_port, own):
    s.accept()[0].close()
for _ in range(int(sys.argv[2])):
    listener(int(sys.argv[1]) + 1).close()
print("done", flush=True)
sys.stdin.read()
"""


@test(60, BOTH)
def listeners_that_no_rule_is_for_are_nobodys_business():
    """On a port that the system chose, and of who has accepted before: they are free once they are closed."""
    server = preloaded(need("python3"), "-c", LEFT_ALONE, PORT, 500, stdin=subprocess.PIPE)
    other = int(server.says(r"^port (\d+)$")[1])
    until_live(1, PORT)
    for port in (other, PORT):
        socket.create_connection(("127.0.0.1", port), 20).close()
    server.says("^done")
    check(len(status()["groups"]) == 1, "one is in a group:", status())
    server.popen.stdin.close()
    check(server.wait() == 0, server.output())


# --- other C libraries and checkers


@test(60, BOTH)
def servers_of_musl_share_too():
    library = os.path.join(BUILD, "musl", "libsockshard.so")
    check(os.path.exists(library), "not built:", library, "(`make musl-built`)")
    server = helper("support/ident_server_musl")
    copies = [
        Process(server, "tcp", "127.0.0.1", PORT, env={"LD_PRELOAD": library}) for _ in range(2)
    ]
    for copy in copies:
        copy.says("^ready")
    until_live(2, PORT)
    found = {int(tcp(PORT, b"?").split()[1]) for _ in range(200)}
    check(found == {copy.pid for copy in copies}, "answers came from", found)


def sanitized(compiler, *flags, before=()):
    source = os.path.join(TESTS, "preload", "simple.c")
    server = os.path.join(folder(), "simple")
    code, _, err = call(need(compiler), "-g", "-D_GNU_SOURCE", *flags, "-o", server, source)
    check(code == 0, err)
    # the search for leaks needs ptrace, which containers refuse
    env = {"ASAN_OPTIONS": "exitcode=99:detect_leaks=0:abort_on_error=0"}
    copies = [preloaded(server, PORT, 100, before=before, env=env) for _ in range(2)]
    for copy in copies:
        copy.says("^ready")
    until_live(2, PORT)
    both_serve([copy.pid for copy in copies], 60)

    def both_ended():
        try:
            ask()
        except OSError:
            pass
        return all(copy.popen.poll() is not None for copy in copies)

    until(30, "the end of both", both_ended)
    for copy in copies:
        check(copy.wait() == 0 and "Sanitizer" not in copy.output(), copy.output())


@test(60, BOTH)
def a_server_with_address_sanitizer_of_gcc():
    code, library, _ = call(need("gcc"), "-print-file-name=libasan.so")
    check(code == 0)
    # its run-time library insists on being first
    sanitized("gcc", "-fsanitize=address", before=[os.path.realpath(library.strip())])


@test(60, BOTH)
def a_server_with_address_sanitizer_of_clang():
    sanitized("clang", "-fsanitize=address")


@test(120, BOTH)
def valgrind_finds_nothing_in_us():
    valgrind = [need("valgrind"), "-q", "--error-exitcode=99", "--track-fds=no"]
    server = Process(*valgrind, helper("preload/simple"), PORT, 20, env={"LD_PRELOAD": LIBRARY})
    server.says("^ready", 60)
    until_live(1, PORT)
    for _ in range(20):
        ask()
    check(server.wait(60) == 0, server.output())
    rounds = Process(*valgrind, helper("preload/dup_close"), PORT, env={"LD_PRELOAD": LIBRARY})
    rounds.says("^ready", 60)
    ask()
    check("==" not in server.output() + rounds.output(), server.output(), rounds.output())


main()
