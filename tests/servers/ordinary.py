#!/usr/bin/env python3
"""Ordinary programs under the preload with its default policy behave as without it: same output, same
status, and no keeper comes to life."""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8040


def same(*argv, fresh=None, code=0, cleaned=lambda text: text, binds=False, **how):
    """Runs a program without and with us; compares. `fresh` makes the folder each starts in; binds: it
    binds an address, and who does that meets the keeper."""
    seen = []
    for env in ({}, {"LD_PRELOAD": LIBRARY}):
        where = fresh() if fresh else None
        got = call(*argv, env={**env, **how.get("env", {})}, cwd=where)
        seen.append(tuple(cleaned(str(part).replace(where or "\0", "HERE")) for part in got))
    check(seen[0] == seen[1], f"{argv}\nwithout: {seen[0]}\nwith:    {seen[1]}")
    check(seen[0][0] == str(code), f"{argv} ended with {seen[0]}")
    check(not status()["groups"], "there is a group:", status())
    check(binds or not status()["keeper"], "there is a keeper:", status())
    return seen[0][1]


def web_server():
    where = folder()
    for i in range(3):
        write(os.path.join(where, f"file{i}"), f"content {i}\n" * 1000)
    server = Process(need("python3"), "-u", "-m", "http.server", "-d", where, PORT)
    server.says("Serving HTTP")
    return where


@test(60, ALL)
def bash():
    web_server()
    script = f"""
        set -e
        echo $((6 * 7)) | cat | (read -r x; echo "got $x")
        exec 3<>/dev/tcp/127.0.0.1/{PORT}
        printf 'GET /file1 HTTP/1.0\\r\\n\\r\\n' >&3
        cat <&3 | grep -v Date
        exec 3<&- 3>&-
        for fd in /proc/self/fd/*; do readlink "$fd" | sed 's/[0-9][0-9]*/N/g'; done
        sleep 0.1 & wait
        (exec 1>&-; echo lost) 2>&1 || true
        trap 'echo trapped' USR1; kill -USR1 $$
        diff <(echo a) <(echo b) || echo "differs $?"
        exit 3
    """
    same(need("bash"), "-c", script, code=3)


@test(60, ALL)
def git():
    where = folder()
    base = os.path.join(where, "base")
    env = {
        "HOME": where, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
        "GIT_AUTHOR_DATE": "2000-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2000-01-01T00:00:00Z",
    }
    script = f"""
        set -e
        git init -q work && cd work
        seq 1000 >numbers && git add numbers && git commit -q -m first
        sed -i s/5/five/ numbers && git commit -q -a -m second
        git log --stat --format='%H %s' && git diff HEAD~1 | tail -n 3
        git gc -q && git fsck 2>&1 && git status --short
    """
    same(need("sh"), "-c", script, fresh=folder, env=env)
    code, _, err = call(need("sh"), "-c", script.replace("work", base), env=env, cwd=where)
    check(code == 0, err)
    daemon = Process(need("git"), "daemon", "--export-all", f"--base-path={where}",
                     "--listen=127.0.0.1", f"--port={PORT}", "--verbose", where, env=env)
    daemon.says("Ready to rumble")
    script = f"git clone -q git://127.0.0.1:{PORT}/base there && cd there && git log --format=%H"
    same(need("sh"), "-c", script, fresh=folder, env=env)


@test(60, ALL)
def curl():
    web_server()
    url = f"http://127.0.0.1:{PORT}/file"
    format = "%{http_code} %{size_download} %{num_connects}\\n"
    same(need("curl"), "-sS", "-w", format, f"{url}[0-2]")
    same("curl", "-sS", f"{url}-missing", "-f", "-o", "/dev/null", code=22)
    same("curl", "-sS", f"http://127.0.0.1:{PORT + 100}/", code=7,
         cleaned=lambda text: re.sub(r"after \d+ ms", "after N ms", text))
    same("curl", "-sS", "--local-port", f"{PORT + 1}-{PORT + 90}", "-w", format, f"{url}1",
         binds=True)


@test(60, ALL)
def python_http_client():
    web_server()
    script = f"""
import concurrent.futures, http.client, subprocess, urllib.request
print(len(urllib.request.urlopen('http://127.0.0.1:{PORT}/file2').read()))
def get(i):
    c = http.client.HTTPConnection('127.0.0.1', {PORT}, 10, source_address=('127.0.0.1', 0))
    c.request('GET', '/file%d' % (i % 3))
    r = c.getresponse()
    return r.status, len(r.read())
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(list(pool.map(get, range(40))))
print(subprocess.run(['echo', 'child'], capture_output=True, close_fds=True).stdout)
"""
    same(need("python3"), "-c", script)


main()
