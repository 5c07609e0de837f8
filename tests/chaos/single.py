#!/usr/bin/env python3
"""What waits where nobody accepts is answered once somebody does; each client by one server."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import *

PORT = 8086


def argv(mode="block", *words):
    return [helper("chaos/server"), "127.0.0.1", PORT, mode, *words]


def connect():
    return Client(PORT)


def gone(*slots):
    until(10, f"slots {slots} without a process", lambda: not set(slots) & set(live(PORT)))


def one_shard(mode):
    """100 wait, it is killed, 50 more come while nobody lives, it is started again."""
    launcher = run(1, *argv(mode))
    pid = until_live(1, PORT)[0]["pid"]
    clients = wait_in_queue(0, 100, connect, PORT)
    launcher.signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    gone(0)
    clients += [connect() for _ in range(50)]
    check(not any(c.answered() for c in clients), "somebody answers")
    launcher.signal(signal.SIGCONT)
    words = answers(clients)
    pids = {w[2] for w in words}
    print(f"{mode}: {len(words)} of 150 answered, by {pids}")
    check(str(pid) not in pids and len(pids) == 1, pids)
    whole(PORT, 1)
    figure(f"one shard, 100 queued, killed, 50 more: {mode}", len(words), 1, 150 - len(words))
    stop(launcher, PORT)


for _mode in ("block", "edge", "oneshot"):
    twice(60, name=f"one_shard_{_mode}")(lambda mode=_mode: one_shard(mode))


@twice(60)
def killed_again_while_its_old_queue_is_given():
    """n = 1: the restarted shard dies as well, five times, while it is given what waited."""
    launcher = run(1, *argv("level", "work=20"))
    until_live(1, PORT)
    clients = wait_in_queue(0, 100, connect, PORT)
    deaths = [Death(live_pids(PORT)[0], PORT)]
    for _ in range(5):
        until(20, "a new process", lambda: live_pids(PORT).get(0, deaths[-1].pid) != deaths[-1].pid)
        done = sum(c.answered() for c in clients)
        until(20, "more answers", lambda: sum(c.answered() for c in clients) > done + 3)
        deaths.append(Death(live_pids(PORT)[0], PORT))
    own, missing = 0, []
    for client in clients:
        try:
            client.answer()
        except Failure as failure:
            if any((4, client.name[1]) in d.own for d in deaths):
                own += 1
            else:
                missing.append(str(failure))
    print(f"{len(clients)} waited, {own} were the killed processes' own, {len(missing)} lost")
    check(not missing, f"{len(missing)} lost: {missing[:3]}")
    check(own <= len(deaths), own, status())
    whole(PORT, 1)
    figure("killed again while its old queue is given", len(clients), len(deaths), len(missing))
    stop(launcher, PORT)


def all_four_killed(keeper_too):
    """400 wait when all are killed, 40 more come; the keeper's worker is killed before that."""
    launcher = run(4, *argv("level"))
    pids = {slot: s["pid"] for slot, s in until_live(4, PORT).items()}
    for pid in pids.values():
        freeze_all(pid)
    clients = [connect() for _ in range(400)]
    until(10, "400 in the queues", lambda: sum(queue(s, PORT) for s in pids) == 400)
    launcher.signal(signal.SIGSTOP)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    gone(*pids)
    if keeper_too:
        os.kill(status()["keeper"]["pid"], signal.SIGKILL)
    clients += [connect() for _ in range(40)]
    launcher.signal(signal.SIGCONT)
    words = answers(clients)
    print(f"{len(words)} of 440 answered, by {sorted({w[1] for w in words})}")
    whole(PORT, 4)
    figure("all four killed with queues" + (", then the keeper's worker" if keeper_too else ""),
           len(words), 4, 440 - len(words))
    stop(launcher, PORT)


@twice(90)
def all_four_killed_with_queues():
    all_four_killed(keeper_too=False)


@test(90)
def all_four_and_the_keeper_killed_with_queues():
    all_four_killed(keeper_too=True)


@test(90)
def the_whole_keeper_killed_with_the_queue_of_a_dead_shard():
    """Worker and vault at once: what only they held is reset, exactly that; the others serve on, and
    the next keeper steers them."""
    launcher = run(4, *argv("level"))
    pids = {slot: s["pid"] for slot, s in until_live(4, PORT).items()}
    for pid in pids.values():
        freeze_all(pid)
    clients = [connect() for _ in range(100)]
    until(10, "100 in the queues", lambda: sum(queue(s, PORT) for s in pids) == 100)
    held = queue(0, PORT)
    launcher.signal(signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    gone(0)
    keeper = status()["keeper"]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (keeper["vault"], keeper["pid"]):
            os.kill(pid, number)
    for slot in (1, 2, 3):
        os.kill(pids[slot], signal.SIGCONT)
    missing = 0
    for client in clients:
        try:
            check(client.answer()[1] != "0")
        except Failure as failure:
            check("reset" in str(failure), failure)
            missing += 1
    print(f"{held} of 100 waited at the dead one, {missing} lost")
    check(missing == held, missing, "lost,", held, "waited at the dead shard")
    launcher.signal(signal.SIGCONT)
    launcher.says("the keeper is back")
    whole(PORT, 4)
    check({s: p for s, p in live_pids(PORT).items() if s} == {s: pids[s] for s in (1, 2, 3)})
    figure("dead shard's queue, worker and vault killed at once", len(clients), 1, missing,
           note=f"{held} waited where only the keeper held the socket; all four steered again")
    stop(launcher, PORT)


def with_lib_die(when, file, copies=4, server=None):
    env = {"LD_PRELOAD": helper("chaos/lib_die"), "CHAOS_DIE": when, "CHAOS_DIE_FILE": file}
    return run(copies, *(server or argv("level")), env=env)


WHEN = {
    "ask": "a survivor killed before it asks",
    "before": "a survivor killed before it acknowledges",
    "after": "a survivor killed after it acknowledged: its own",
}


def killed_with_a_gift(when, rounds):
    """A survivor dies with a nudge or a given connection in its hand. How many go unanswered?"""
    file = os.path.join(folder(), "die")
    missing = 0
    launcher = with_lib_die(when, file)
    for turn in range(rounds):
        slot = turn % 4
        pids = {s: m["pid"] for s, m in until_live(4, PORT).items()}
        clients = wait_in_queue(slot, 12, connect, PORT)
        launcher.signal(signal.SIGSTOP)
        write(file, "")
        begin = time.monotonic()
        os.kill(pids[slot], signal.SIGKILL)
        until(10, "a survivor's death", lambda: not os.path.exists(file))
        for client in clients:
            try:
                client.answer()
            except Failure as failure:
                check("reset" in str(failure) or "got b''" in str(failure), failure)
                missing += 1
        print(f"{when}: the last answer after {time.monotonic() - begin:.3f} s", flush=True)
        launcher.signal(signal.SIGCONT)
        until(20, "new processes",
              lambda: len(set(live_pids(PORT).values()) - set(pids.values())) >= 2)
    whole(PORT, 4)
    figure(WHEN[when], rounds * 12, rounds * 2, missing, note="12 waiting each time")
    stop(launcher, PORT)
    return missing


@twice(pick(300, 60))
def a_survivor_killed_with_a_nudge_loses_nothing():
    rounds = pick(40, 4)
    missing = killed_with_a_gift("ask", rounds)
    print(f"{rounds} survivors killed before they asked: {missing} unanswered")
    check(missing == 0, missing)


@twice(pick(300, 60))
def a_survivor_killed_before_it_acknowledges_loses_nothing():
    rounds = pick(40, 4)
    missing = killed_with_a_gift("before", rounds)
    print(f"{rounds} survivors killed before the acknowledgement: {missing} unanswered")
    check(missing == 0, missing)


@twice(pick(300, 60))
def a_survivor_killed_after_it_acknowledged_loses_only_its_own():
    rounds = pick(40, 4)
    missing = killed_with_a_gift("after", rounds)
    print(f"{rounds} survivors killed after the acknowledgement: {missing} unanswered")
    check(missing <= rounds, missing)


def has_given_up(pid):
    """It has no connection to the keeper any more, and nothing in its queue that would make it look again."""
    with open("/proc/net/unix") as file:
        local = {int(line.split()[6]) for line in list(file)[1:]}
    return not local & socket_inodes(pid) and queued_at(pid, PORT) == 0


def all_are_answered(launcher, keeper, clients):
    """... once the stopped keeper goes on, and then the stopped launcher."""
    os.kill(keeper, signal.SIGCONT)
    words = answers(clients)
    print(f"{len(words)} of {len(clients)} answered")
    launcher.signal(signal.SIGCONT)
    whole(PORT, 4)
    stop(launcher, PORT)


def killed_to_stop_the_keeper(launcher, file, victim):
    """12 clients wait in the victim; lib_die stops the keeper at a survivor's word about the first of them.
    -> the keeper, the clients"""
    keeper = status()["keeper"]["pid"]
    clients = wait_in_queue(0, 12, connect, PORT)
    launcher.signal(signal.SIGSTOP)
    write(file, "")
    os.kill(victim, signal.SIGKILL)
    until(10, "a stopped keeper", lambda: not os.path.exists(file) and state(keeper) == "T", 0.001)
    return keeper, clients


@test(60)
def a_keeper_stopped_before_an_acknowledgement_loses_nothing():
    """The shard gives up waiting for the answer, and the keeper reads the word all the same."""
    file = os.path.join(folder(), "die")
    launcher = with_lib_die("stop", file)
    pids = {s: m["pid"] for s, m in until_live(4, PORT).items()}
    keeper, clients = killed_to_stop_the_keeper(launcher, file, pids[0])
    until(8, "one that gives up", lambda: any(has_given_up(pids[s]) for s in (1, 2, 3)))
    all_are_answered(launcher, keeper, clients)


@test(60)
def a_thread_cancelled_in_the_midst_of_a_question_loses_nothing():
    """The server lets its threads be cancelled in accept only, and that is where they ask."""
    file = os.path.join(folder(), "die")
    launcher = with_lib_die("stop", file, 2, [helper("chaos/cancelled"), "127.0.0.1", PORT])
    pids = {s: m["pid"] for s, m in until_live(2, PORT).items()}
    keeper, clients = killed_to_stop_the_keeper(launcher, file, pids[0])
    os.kill(pids[1], signal.SIGUSR1)
    time.sleep(0.2)  # shorter than the deadline of its question
    os.kill(keeper, signal.SIGCONT)
    answers(clients)
    launcher.signal(signal.SIGCONT)
    whole(PORT, 2)
    stop(launcher, PORT)


@test(60)
def shards_that_have_all_given_up_asking_are_woken():
    """No client comes that they could notice by that the keeper goes on. The keeper stops when nudges stand in
    each one's queue, and none behind those that it has threads for: it would wake its shard all the same."""
    launcher = run(4, *argv("block", "threads=4"))
    pids = {s: m["pid"] for s, m in until_live(4, PORT).items()}
    keeper = status()["keeper"]["pid"]
    clients = wait_in_queue(0, 12, connect, PORT)
    launcher.signal(signal.SIGSTOP)
    for slot in (1, 2, 3):
        freeze_all(pids[slot])
    os.kill(pids[0], signal.SIGKILL)
    until(10, "nudges before all", lambda: all(queued_at(pids[s], PORT) for s in (1, 2, 3)), 0.002)
    freeze_all(keeper)
    for slot in (1, 2, 3):
        os.kill(pids[slot], signal.SIGCONT)

    def given_up():
        return all(has_given_up(pids[s]) for s in (1, 2, 3))

    until(20, "shards that have given up", lambda: given_up() and not time.sleep(0.1) and given_up())
    check(not any(c.answered() for c in clients), "somebody has asked and was answered")
    all_are_answered(launcher, keeper, clients)


@test(60)
def who_waits_first_is_given_first():
    launcher = run(2, *argv("block", "work=20"))
    pids = {s: m["pid"] for s, m in until_live(2, PORT).items()}
    clients = wait_in_queue(0, 30, connect, PORT)
    launcher.signal(signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    clients[0].answered(20)
    before = sum(c.answered() for c in clients[1:])
    print(f"{before} of the 29 behind the first were answered before it")
    answers(clients)
    check(before <= 4, before, "overtook the first")  # nudges and gifts on their way at a time
    launcher.signal(signal.SIGCONT)
    until_live(2, PORT)
    stop(launcher, PORT)


@test(60)
def a_late_nudge_does_not_stop_a_server_that_polls():
    """A frozen server gets nudges, another one the connections; then it polls."""
    launcher = run(3, *argv("two"))
    pids = {s: m["pid"] for s, m in until_live(3, PORT).items()}
    until_live(3, PORT + 1)
    clients = wait_in_queue(0, 12, connect, PORT)
    freeze_all(pids[1])
    launcher.signal(signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    answers(clients)  # by slot 2 alone, once the nudges before slot 1 are waited for no longer
    os.kill(pids[1], signal.SIGCONT)
    others = [Client(PORT + 1) for _ in range(40)]
    deadline = time.monotonic() + 10
    silent = [c for c in others if not c.answered(max(0, deadline - time.monotonic()))]
    print(f"{len(silent)} of 40 clients of the other port without an answer")
    check(not silent, f"{len(silent)} of 40 clients of the other port hang")
    check({w[1] for w in answers(others)} == {"1", "2"})
    launcher.signal(signal.SIGCONT)
    until_live(3, PORT)
    stop(launcher, PORT, PORT + 1)


@twice(60)
def half_open_ones_of_a_dead_shard_are_answered():
    """TCP_DEFER_ACCEPT: clients that have not spoken yet wait in no queue when their shard dies."""
    launcher = run(4, *argv("level", "defer"))
    pids = {s: m["pid"] for s, m in until_live(4, PORT).items()}
    clients = [Client(PORT, speak=False) for _ in range(60)]
    for slot in (0, 1):
        os.kill(pids[slot], signal.SIGKILL)
    until(20, "new processes", lambda: len(set(live_pids(PORT).values()) - set(pids.values())) == 2)
    time.sleep(6)  # longer than the keeper keeps a socket that has nothing left to hold it for
    for client in clients:
        client.speak()
    words = answers(clients)
    print(f"{len(words)} of 60 answered")
    whole(PORT, 4)
    figure("half-open at two dead shards", len(words), 2, 60 - len(words))
    stop(launcher, PORT)


main()
