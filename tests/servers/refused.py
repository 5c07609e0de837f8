#!/usr/bin/env python3
"""Programs that a preload cannot reach: `run` refuses them (69) and says why."""

import os
import shutil
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

MARK = "started"


def program(compiler, *flags):
    """A program that leaves a mark in its folder when it is started."""
    where = folder()
    source = write(
        os.path.join(where, "main.c"),
        f'#include <stdio.h>\nint main(void) {{ return !fopen("{where}/{MARK}", "w"); }}\n',
    )
    path = os.path.join(where, "program")
    code, _, err = call(need(compiler), *flags, "-o", path, source)
    check(code == 0, err)
    return path


def refused(path, *reasons, code=69):
    mark = os.path.join(os.path.dirname(path), MARK)
    got, out, err = call(COMMAND, "run", "-n", 2, "--", path)
    check(got == code and not out, f"run {path} ended with {got}: {out} {err}")
    for reason in (path, *reasons):
        check(reason in err, f"run {path} does not say {reason!r}: {err}")
    check(err.count("\n") == 1, "not one line:", err)
    check(not os.path.exists(mark), "it was started")
    got, out, err = call(COMMAND, "check", "--", path)
    check(got == code and all(r in out + err for r in reasons), "check:", got, out, err)


@test(60, ALL)
def static_programs():
    refused(program("gcc", "-static"), "static")
    refused(program("gcc", "-static-pie"), "static")


@test(60, ALL)
def a_script_is_judged_by_its_interpreter():
    static = program("gcc", "-static")
    script = write(os.path.join(os.path.dirname(static), "script"), f"#!{static}\n")
    os.chmod(script, 0o755)
    refused(script, "static", static)


@test(60, "plain user")
def setuid_and_setgid_programs():
    path = program("gcc")
    for bit, word in ((stat.S_ISUID, "setuid"), (stat.S_ISGID, "setgid")):
        os.chmod(path, 0o755 | bit)
        refused(path, word)


@test(60)
def programs_with_capabilities():
    path = program("gcc")
    code, _, err = call(need("setcap"), "cap_net_bind_service+ep", path)
    check(code == 0, err)
    refused(path, "capabilities")


@test(60, ALL)
def programs_of_another_libc():
    need("musl-gcc")
    refused(program("musl-gcc"), "musl")


def go_program(cgo):
    where = folder()
    write(
        os.path.join(where, "main.go"),
        f"""package main

import (
	"net"
	"os"
)

func main() {{
	os.WriteFile("{where}/{MARK}", nil, 0600)
	net.Listen("tcp", "127.0.0.1:8050")
}}
""",
    )
    env = {
        "HOME": where, "GOCACHE": f"{where}/cache", "GOPATH": f"{where}/path",
        "GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": str(cgo), "GOTOOLCHAIN": "local",
    }
    path = os.path.join(where, "program")
    code, _, err = call(
        need("go"), "build", "-o", path, f"{where}/main.go", env=env, seconds=170, cwd=where
    )
    check(code == 0, err)
    shutil.rmtree(f"{where}/cache", ignore_errors=True)
    return path


@test(200)
def go_programs_static():
    refused(go_program(0), "Go")


@test(200)
def go_programs_with_libc():
    path = go_program(1)
    with open(path, "rb") as file:
        check(b"ld-linux" in file.read(), "this Go made a static program")
    refused(path, "Go")


main()
