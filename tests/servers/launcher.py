#!/usr/bin/env python3
"""`sockshard run` and `status` as operators meet them, and a keeper that comes and goes by itself."""

import os
import shutil
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8030
EMPTY = {"keeper": None, "groups": []}


def ident(*words, proto="tcp"):
    return [helper("support/ident_server"), proto, "127.0.0.1", PORT, *words]


def running(pid):
    return not ended(pid)


@test(60, ALL)
def status_has_the_agreed_fields():
    code, out, err = call(COMMAND, "status", "--json")
    check(code == 69 and json.loads(out) == EMPTY, code, out, err)
    launcher = run(2, *ident(), options=["-g", "fields"])
    for _ in range(10):
        tcp(PORT, b"?")
    seen = status()
    check(set(seen["keeper"]) >= {"pid", "version"}, seen)
    check(running(seen["keeper"]["pid"]) and re.fullmatch(r"\d+\.\d+\.\d+", seen["keeper"]["version"]))
    (one,) = seen["groups"]
    want = {
        "proto": "tcp", "address": f"127.0.0.1:{PORT}", "group": "fields", "mode": "balance",
        "key": "flow", "steered": True, "buckets": 256, "lost": 0, "strangers": [],
    }
    check({key: one.get(key) for key in want} == want, one)
    check(len(one["slots"]) == 2, one)
    for number, slot in enumerate(one["slots"]):
        want = {
            "slot": number, "generation": 1, "state": "live", "weight": 1, "buckets": 128,
            "queue": 0, "given": 0, "supervised": True,
        }
        check({key: slot.get(key) for key in want} == want, slot)
        check(running(slot["pid"]))
    check(sum(slot["accepted"] for slot in one["slots"]) == 10, one)
    code, out, _ = call(COMMAND, "status")
    check(code == 0 and f"127.0.0.1:{PORT}" in out and "live" in out, code, out)
    stop(launcher, PORT)


@test(60, ALL)
def addresses_are_written_as_agreed():
    for address, shown in (("0.0.0.0", "0.0.0.0"), ("::", "[::]"), ("::1", "[::1]")):
        words = [helper("support/ident_server"), "udp", address, PORT]
        launcher = run(1, *words, options=["-p", f"udp/*:{PORT}"])
        check(group(PORT, "udp")["address"] == f"{shown}:{PORT}", status())
        stop(launcher)


@test(60, ALL)
def connections_that_wait_are_counted():
    launcher = run(1, *ident())
    slot = live(PORT)[0]
    freeze(slot["pid"])
    clients = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(5)]
    until(5, "5 waiting connections", lambda: live(PORT)[0]["queue"] == 5)
    os.kill(slot["pid"], signal.SIGCONT)
    for client in clients:
        client.close()
    until(5, "5 accepted connections", lambda: live(PORT)[0]["accepted"] == 5)
    stop(launcher, PORT)


@test(60, ALL)
def what_waited_in_a_killed_shard_goes_to_the_others():
    run(2, *ident("epoll"))
    first = live(PORT)
    for slot in first.values():
        freeze(slot["pid"])
    clients = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(40)]
    waiting = until(5, "a queue", lambda: sum(s["queue"] for s in live(PORT).values()) == 40
                    and live(PORT)[1]["queue"])
    os.kill(first[1]["pid"], signal.SIGKILL)
    os.kill(first[0]["pid"], signal.SIGCONT)
    until(20, "a new process in slot 1",
          lambda: live(PORT).get(1, first[1])["pid"] != first[1]["pid"])
    until(20, f"{waiting} given",
          lambda: sum(s["given"] for s in live(PORT).values()) == waiting)
    check(group(PORT)["lost"] == 0, status())
    for client in clients:
        client.close()


@test(60, ALL)
def the_slot_number_goes_into_arguments():
    where = folder()
    script = f'echo {{slot}} "$SOCKSHARD_SLOT" > {where}/{{slot}}; exec "$@"'
    launcher = run(3, "sh", "-c", script, "sh", *ident())
    for slot in range(3):
        with open(os.path.join(where, str(slot))) as file:
            check(file.read() == f"{slot} {slot}\n")
    check(sorted(live(PORT)) == [0, 1, 2], status())
    stop(launcher, PORT)


@test(60, ALL)
def output_can_carry_the_slot():
    launcher = run(2, *ident(), options=["--prefix"])
    launcher.says(r"^\[0\] ready$")
    launcher.says(r"^\[1\] ready$")
    stop(launcher, PORT)


COMPLETE = """source "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_sockshard "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(*words):
    """What bash offers for the last of these words of a command line"""
    code, out, err = call(need("bash"), "-c", COMPLETE, f"{BUILD}/completion.bash", COMMAND, *words)
    check(code == 0 and not err, code, err)
    return set(out.split())


@test(60, ALL)
def bash_completes_what_help_names():
    _, out, _ = call(COMMAND, "--help")
    there = {line.split()[1] for line in out.splitlines() if line.startswith("  sockshard ")}
    subcommands = {word for word in there if "not in this version" not in out.split(word, 1)[1].split("\n")[0]}
    check(completed("") == subcommands | {"--help", "--version"}, completed(""), subcommands)
    check(completed("st") == {"status", "stop"}, completed("st"))
    for subcommand in subcommands:
        _, out, _ = call(COMMAND, subcommand, "--help")
        named = set(re.findall(r"(?m)^ +(?:-\w, )?(--[a-z-]+)(?!.*not (?:in|supported by) this)", out))
        check(completed(subcommand, "-") == named | {"--"}, subcommand, completed(subcommand, "-"), named)
    check(completed("run", "--restart", "o") == {"on-failure"}, completed("run", "--restart", "o"))
    check("HUP" in completed("run", "--stop-signal", ""), completed("run", "--stop-signal", ""))
    check(completed("status", "") == set(), completed("status", ""))
    run(1, *ident(), options=["-g", "mine"])
    for words in (["status"], ["stop"], ["run", "-g"]):
        check(completed(*words, "m") == {"mine"}, words, completed(*words, "m"))
    check("sh" in completed("run", "-n", "4", "--", "sh"), completed("run", "-n", "4", "--", "sh"))


@test(60, ALL)
def a_failed_first_start_ends_all_with_its_status():
    for words, status_wanted in (
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", 'test "$SOCKSHARD_SLOT" != 1 || exit 9; exec "$@"', "sh", *ident()], 9),
    ):
        code, _, err = call(COMMAND, "run", "-n", 3, "--", *words)
        check(code == status_wanted, words, "ended with", code, err)
        check("before it listened" in err and "copies listen" not in err, err)


@test(60, ALL)
def a_crashed_copy_is_started_again_however_often():
    launcher = run(2, *ident())
    for turn in range(5):
        pid = live(PORT)[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        until(5, "a new process in slot 0",
              lambda: live(PORT).get(0, {}).get("pid", pid) != pid)
        check(live(PORT)[0]["generation"] == turn + 2, status())
    stop(launcher, PORT)


@test(60, ALL)
def restart_no_leaves_a_slot_empty_and_ends_with_the_last():
    launcher = run(2, *ident(), options=["--restart", "no"])
    first = live(PORT)
    os.kill(first[0]["pid"], signal.SIGKILL)
    until(10, "one slot", lambda: sorted(live(PORT)) == [1])
    check({int(tcp(PORT, b"?").split()[1]) for _ in range(50)} == {first[1]["pid"]})
    check(launcher.popen.poll() is None)
    os.kill(first[1]["pid"], signal.SIGKILL)
    check(launcher.wait() == 137, launcher.output())


@test(60, ALL)
def signals_of_later_versions_do_nothing():
    launcher = run(2, *ident())
    before = live(PORT)
    for number, word in ((signal.SIGHUP, "HUP"), (signal.SIGTTIN, "TTIN"), (signal.SIGTTOU, "TTOU")):
        launcher.signal(number)
        launcher.says(rf"{word}.*not in this version")
    check({s: v["pid"] for s, v in live(PORT).items()} == {s: v["pid"] for s, v in before.items()})
    stop(launcher, PORT)


@test(60, ALL)
def a_copy_that_ignores_the_stop_signal_is_killed():
    stubborn = ["sh", "-c", "trap '' TERM; exec \"$@\"", "sh", *ident()]
    launcher = run(2, *stubborn, options=["--grace", "1"])
    pids = [s["pid"] for s in live(PORT).values()]
    stop(launcher, PORT)
    check(all(ended(pid) for pid in pids))
    launcher = run(2, *stubborn, options=["--grace", "3600"])
    launcher.signal(signal.SIGTERM)
    launcher.signal(signal.SIGINT)  # a second one: now
    check(launcher.wait() == 0, launcher.output())


@test(60, ALL)
def the_port_is_free_when_run_has_ended():
    for _ in range(20):
        launcher = run(2, *ident())
        launcher.signal(signal.SIGTERM)
        launcher.wait()
        check(free(), "run has ended and the port is still taken:", status())


@test(60, ALL)
def another_stop_signal():
    script = "trap 'echo got QUIT; exit 0' QUIT; \"$@\" & wait"
    launcher = run(1, "bash", "-c", script, "sh", *ident(), options=["--stop-signal", "QUIT"])
    launcher.signal(signal.SIGTERM)
    launcher.wait()
    check("got QUIT" in launcher.output(), launcher.output())


@test(60, "plain user")
def as_process_1_it_reaps_and_forwards():
    # an orphan of a copy becomes a child of ours; it must not stay a zombie
    script = "(sleep 0.1 & exec true) & exec \"$@\""
    unshare = ["unshare", "-p", "-f", "--kill-child", "--mount-proc"]
    if os.getuid() != 0:
        unshare[1:1] = ["-r"]
    outer = Process(*unshare, COMMAND, "run", "-n", 2, "--", "sh", "-c", script, "sh", *ident())
    outer.says("2 of 2 copies listen")
    inner = int(call("pgrep", "-P", outer.pid)[1])
    until(10, "no zombie", lambda: "Z" not in call("ps", "-o", "stat=", "--ppid", inner)[1])
    check(len({tcp(PORT, b"?") for _ in range(50)}) == 2)
    os.kill(inner, signal.SIGTERM)
    check(outer.wait() == 0, outer.output())


@test(60, ALL)
def servers_outlive_their_launcher():
    launcher = run(2, *ident())
    before = live(PORT)
    launcher.signal(signal.SIGKILL)
    launcher.wait()
    until(10, "nobody is supervised",
          lambda: not any(s["supervised"] for s in live(PORT).values()))
    check(len({tcp(PORT, b"?") for _ in range(50)}) == 2)
    check({s: v["pid"] for s, v in live(PORT).items()} == {s: v["pid"] for s, v in before.items()})
    for slot in before.values():
        os.kill(slot["pid"], signal.SIGTERM)


@test(90, ALL)
def the_keeper_starts_on_demand_and_ends_when_idle():
    server = preloaded(*ident())
    server.says("^ready")
    until_live(1, PORT)
    keeper = status()["keeper"]["pid"]
    check(call("ps", "-o", "ppid=", "-p", server.pid)[1].strip() == str(os.getpid()))
    check(call("pgrep", "-P", server.pid)[1] == "", "the server has a child")
    with open(f"/proc/{keeper}/environ") as file:
        check("LD_" not in file.read(), "the keeper has LD_ variables")
    check(os.readlink(f"/proc/{keeper}/cwd") == "/", "the keeper keeps a folder busy")
    server.signal(signal.SIGKILL)
    server.wait()
    until(60, "the keeper's end", lambda: ended(keeper), 0.2)
    check(status() == EMPTY, status())


@test(60, ALL)
def a_killed_keeper_hurts_nobody():
    launcher = run(2, *ident())
    pids = {s["pid"] for s in live(PORT).values()}
    os.kill(status()["keeper"]["pid"], signal.SIGKILL)
    answers = {int(tcp(PORT, b"?").split()[1]) for _ in range(100)}
    check(answers == pids, f"answers came from {answers}, not {pids}")
    check(launcher.popen.poll() is None, launcher.output())


@test(60, ALL)
def idle_copies_come_to_the_next_keeper_and_keep_their_flows():
    next_keeper(signal.SIGKILL, ("vault", "pid"))


@test(60, ALL)
def idle_copies_come_to_the_next_keeper_after_one_that_was_asked_to_end():
    next_keeper(signal.SIGTERM, ("pid",))


def next_keeper(ending, roles):
    run(4, *ident("epoll"))
    pids = {slot: s["pid"] for slot, s in live(PORT).items()}
    before = by_slot()
    keeper = status()["keeper"]
    for role in roles:
        os.kill(keeper[role], ending)
    until(20, "all copies at the next keeper", lambda: (group(PORT) or {}).get("steered")
          and {slot: s["pid"] for slot, s in live(PORT).items()} == pids)
    check(status()["keeper"]["vault"] != keeper["vault"], status())
    check(by_slot() == before, "flows have moved")
    os.kill(pids[2], signal.SIGKILL)
    until(20, "a new process in slot 2", lambda: live(PORT).get(2, {}).get("pid", pids[2]) != pids[2])
    check(by_slot() == before, "flows have moved")


def by_slot():
    return {flow: who[0] for flow, who in
            flows(tcp, PORT, range(21000, 21200), ["127.0.0.1"]).items()}


@test(60, ALL)
def a_crash_holds_the_port_for_as_long_as_hold_says():
    server = preloaded(*ident(), env={"SOCKSHARD_POLICY": f"{PORT},hold=2"})
    server.says("^ready")
    until_live(1, PORT)
    server.signal(signal.SIGKILL)
    server.wait()
    check([s["state"] for s in group(PORT)["slots"]] == ["orphan"], status())
    with socket.create_connection(("127.0.0.1", PORT)):  # waits in the held socket
        pass
    until(10, "a free port", free)
    check(not group(PORT), status())


def free():
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", PORT))
        except OSError:
            return False
        other.listen(1)
        return True


@test(60, ALL)
def the_two_files_work_in_any_folder():
    where = folder()
    for command, library in (("sockshard", "libsockshard.so"),
                             ("bin/sockshard", "lib/sockshard/libsockshard.so")):
        command, library = os.path.join(where, command), os.path.join(where, library)
        for source, path in ((COMMAND, command), (LIBRARY, library)):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copy(source, path)
        server = Process(*ident(), env={"LD_PRELOAD": library}, cwd="/")
        server.says("^ready")
        until_live(1, PORT)
        check(os.readlink(f"/proc/{status()['keeper']['pid']}/exe") == command, status())
        server.signal(signal.SIGKILL)
        server.wait()
        keeper_ends()
        launcher = Process(command, "run", "--", *ident(), env={"PATH": "/nowhere"}, cwd="/")
        launcher.says("1 of 1 copies listen")
        with open(f"/proc/{live(PORT)[0]['pid']}/maps") as file:
            check(f" {library}\n" in file.read(), "another library is in use")
        stop(launcher, PORT)
        keeper_ends()


def keeper_ends():
    os.kill(status()["keeper"]["pid"], signal.SIGTERM)
    until(10, "the end of the keeper", lambda: status() == EMPTY)


main()
