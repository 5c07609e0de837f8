#!/usr/bin/env python3
"""A flow is a client's address and port. Which shard a flow gets must not change when another shard
dies, comes back or joins."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8090
FIRST = 20000  # source ports
V4, V6 = ["127.0.0.1"], ["::1"]
KINDS = {  # address to listen on, further words for ident_server, clients' addresses
    "ipv4": ("127.0.0.1", (), V4),
    "ipv6": ("::1", (), V6),
    "ipv6_only": ("::", ("v6only",), V6),
    "dual_stack": ("::", (), V4 + V6),
}


def slots(answers):
    return {flow: answer[0] for flow, answer in answers.items()}


def moved(before, after):
    return [flow for flow in before if before[flow] != after[flow]]


def policy_of(proto):
    return ["-p", f"{proto}/*:{PORT}"]


def server(proto, kind):
    address, words, _ = KINDS[kind]
    return [helper("support/ident_server"), proto, address, PORT, *words]


def kill_freezing_the_launcher(launcher, slot, proto):
    """kill -9 a slot's process; while its launcher is stopped nobody starts a new one."""
    pid = live(PORT, proto)[slot]["pid"]
    launcher.signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    until(10, "a slot that is not live", lambda: slot not in live(PORT, proto))


def death_and_return(proto, kind, total=400):
    ask = {"tcp": tcp, "udp": udp}[proto]
    hosts = KINDS[kind][2]
    sources = range(FIRST, FIRST + total // len(hosts))
    named = [*policy_of(proto), "-g", "flows"]
    launcher = run(4, *server(proto, kind), options=named)
    until_live(4, PORT, proto)
    check(group(PORT, proto)["steered"], status())
    first = slots(flows(ask, PORT, sources, hosts))
    check(set(first.values()) == {"0", "1", "2", "3"}, "slots that answered:", first.values())

    kill_freezing_the_launcher(launcher, 1, proto)
    gone = slots(flows(ask, PORT, sources, hosts))
    survivors = [flow for flow in first if first[flow] != "1"]
    orphans = [flow for flow in first if first[flow] == "1"]
    lost = [flow for flow in survivors if gone[flow] != first[flow]]
    check(not lost, f"{len(lost)} of {len(survivors)} survivors' flows moved: {lost[:5]}")
    takers = {slot: sum(gone[flow] == slot for flow in orphans) for slot in "023"}
    check(all(takers.values()), f"the dead one's {len(orphans)} flows went to {takers}")
    print(f"death of one of 4: 0 of {len(survivors)} moved; its {len(orphans)} went to {takers}")

    launcher.signal(signal.SIGCONT)
    until_live(4, PORT, proto)
    again = slots(flows(ask, PORT, sources, hosts))
    check(again == first, "after the restart", len(moved(first, again)), "flows moved")

    fifth = run(1, *server(proto, kind), options=named)
    until_live(5, PORT, proto)
    joined = slots(flows(ask, PORT, sources, hosts))
    changed = moved(first, joined)
    check({joined[flow] for flow in changed} == {"4"}, "a join moved flows between old shards")
    print(f"a fifth joins: {len(changed)} of {len(first)} moved, all to it")
    found = group(PORT, proto)
    share = live(PORT, proto)[4]["buckets"]
    check(found["buckets"] // 5 <= share <= found["buckets"] // 5 + 1, "that is not a fifth:", found)
    # so many by chance: 6 standard deviations of it
    check(0.08 <= len(changed) / len(first) <= 0.32, "nor is that")

    stop(fifth)
    until_live(4, PORT, proto)
    left = slots(flows(ask, PORT, sources, hosts))
    changed = moved(joined, left)
    check(all(joined[flow] == "4" for flow in changed), "its leaving moved others' flows")
    check("4" not in left.values(), "it still gets some")


for kind in KINDS:
    for proto in ("udp", "tcp"):
        test(90, ALL, f"{proto}_{kind}_death_return_and_join")(
            lambda proto=proto, kind=kind: death_and_return(proto, kind)
        )


def plain_option(proto):
    """What the option alone does, to be seen beside: no keeper, and one of four dies."""
    ask = {"tcp": tcp, "udp": udp}[proto]
    env = {"SOCKSHARD_KEEPER": "off", "SOCKSHARD_POLICY": policy_of(proto)[1]}
    copies = []
    for slot in range(4):
        one = {**env, "SOCKSHARD_SLOT": slot}
        copies.append(preloaded(*server(proto, "ipv4"), env=one))
        copies[-1].says("^ready")
    check(status() == {"keeper": None, "groups": []}, "there is a keeper:", status())
    sources = range(FIRST, FIRST + 400)
    before = slots(flows(ask, PORT, sources, V4))
    copies[0].signal(signal.SIGKILL)
    copies[0].wait()
    after = slots(flows(ask, PORT, sources, V4))
    survivors = [flow for flow in before if before[flow] != "0"]
    lost = [flow for flow in survivors if before[flow] != after[flow]]
    share = len(lost) / len(survivors)
    print(f"{proto}, option alone: {len(lost)} of {len(survivors)} survivors' flows moved")
    check(share > 0.2, f"only {share:.0%} moved: is the comparison still one?")


test(60, ALL, "udp_plain_option_moves_flows")(lambda: plain_option("udp"))
test(60, ALL, "tcp_plain_option_moves_flows")(lambda: plain_option("tcp"))


def six_rounds(proto, kind):
    """600 flows are where they were after each of six deaths and returns."""
    ask = {"tcp": tcp, "udp": udp}[proto]
    hosts = KINDS[kind][2]
    sources = range(FIRST, FIRST + 600 // len(hosts))
    run(4, *server(proto, kind), options=policy_of(proto))
    until_live(4, PORT, proto)
    first = slots(flows(ask, PORT, sources, hosts))
    for turn in range(6):
        slot = turn % 4
        pid = live(PORT, proto)[slot]["pid"]
        os.kill(pid, signal.SIGKILL)
        until(
            20,
            f"a new process in slot {slot}",
            lambda: live(PORT, proto).get(slot, {}).get("pid", pid) != pid,
        )
        now = slots(flows(ask, PORT, sources, hosts))
        check(now == first, f"round {turn}: {len(moved(first, now))} of 600 flows moved")
    generations = [s["generation"] for s in live(PORT, proto).values()]
    check(sorted(generations) == [2, 2, 3, 3], "generations:", generations)


for kind in ("ipv4", "dual_stack"):
    for proto in ("udp", "tcp"):
        test(120, ALL, f"{proto}_{kind}_600_flows_six_rounds")(
            lambda proto=proto, kind=kind: six_rounds(proto, kind)
        )


main()
