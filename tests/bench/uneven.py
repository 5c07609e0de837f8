#!/usr/bin/env python3
"""Uneven work: one request in 50 takes 50 ms, on 4 copies of a server that does one thing at a time.
Latency as the clients see it, by policy, side by side. The table of docs/TUNING.md."""

import json
import os
import tempfile

from table import *

PORT = 8500
COPIES = 4
CLIENTS = 16
REQUESTS = 5000
ROUNDS = 3
POLICIES = ("balance", "balance,stuck=20", "shared")

SERVER = """
import http.server, random, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if random.randrange(50) == 0:
            time.sleep(0.05)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\\n")

    def log_message(self, *words):
        pass

http.server.HTTPServer.request_queue_size = 128
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def latencies(script, policy):
    """p50, p99, max in ms of REQUESTS requests by CLIENTS clients"""
    launcher = start(COMMAND, "run", "-n", COPIES, "-p", f"{PORT}={policy}", "--",
                     need("python3"), script, PORT, stderr=subprocess.DEVNULL)
    until(20, "all copies", lambda: sum(len(g["slots"]) for g in status()["groups"]) == COPIES)
    client = os.path.join(BUILD, "tests", "chaos", "client")
    ended, output, errors = call(client, "-p", PORT, "-c", CLIENTS, "-n", REQUESTS, seconds=120)
    check(ended == 0, "client:", output, errors)
    counts = json.loads(output.splitlines()[-1])
    launcher.terminate()
    launcher.wait(30)
    launcher.stdin.close()
    launcher.stdout.close()
    started.remove(launcher)
    check(counts["ok"] == REQUESTS, "not all were answered:", counts)
    return counts["p50_ms"], counts["p99_ms"], counts["max_ms"]


def measure():
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "server.py")
        with open(script, "w") as file:
            file.write(SERVER)
        seen = {policy: [] for policy in POLICIES}
        for _ in range(ROUNDS * TIMES):
            for policy in POLICIES:
                seen[policy].append(latencies(script, policy))
    print(
        f"Uneven work: {COPIES} copies of a python3 server, one request in 50 takes 50 ms,"
        f" {CLIENTS} clients, {REQUESTS} requests; medians of {ROUNDS * TIMES} rounds in turn."
    )
    print(f"{'policy':24}{'p50':>12}{'p99':>12}{'max':>12}{'worst max':>14}")
    for policy in POLICIES:
        middle = [statistics.median(column) for column in zip(*seen[policy])]
        worst = max(times[2] for times in seen[policy])
        print(f"{policy:24}" + "".join(f"{ms:9.1f} ms" for ms in middle) + f"{worst:11.1f} ms")


if __name__ == "__main__":
    try:
        measure()
    finally:
        end(*started)
