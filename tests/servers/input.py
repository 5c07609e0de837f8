#!/usr/bin/env python3
"""Bad input: the exact message, exit status 64, and no server started."""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8070
UNIT = os.path.join(TESTS, "unit")


def unescaped(text):
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t", "r": "\r"}.get(m[1], m[1]), text)


def table(name):
    """(policy, message) of each line"""
    with open(os.path.join(UNIT, name)) as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [(unescaped(policy), message) for policy, message in rows]


def refused(words, said, code=64, env=None, n=1):
    """`sockshard run WORDS -- COMMAND` says exactly `said`; COMMAND is not started."""
    mark = os.path.join(folder(), "started")
    got, out, err = call(COMMAND, "run", *words, "--", "touch", mark, env=env)
    what = f"run {words} {env or ''}"
    check(not os.path.exists(mark), what, "started its command")
    check(got == code, what, "ended with", got, "not", code, err)
    check(out == "", what, "wrote to stdout:", out)
    check(err == f"sockshard: {said}\n", f"{what}:\n  said {err!r}\n  not  {said!r}")
    return n


def all_of(name, least):
    count = 0
    for policy, message in table(name):
        for source in ("-p", "SOCKSHARD_POLICY"):
            said = message.replace("@SOURCE@", source)
            if source == "-p":
                count += refused(["-p", policy], said)
            else:
                refused([], said, env={source: policy})
    print(count, "policies")
    check(count >= least, "the table is too short:", count)


@test(120, ALL)
def bad_policies():
    all_of("bad_policies.txt", 40)


@test(60, ALL)
def bad_policy_files():
    where = folder()
    path = write(os.path.join(where, "policy"), "# no comments\n8080\n80x\n")
    code, _, err = call(COMMAND, "run", "-p", "@" + path, "--", "true")
    check(code == 64 and path in err and 'found "# no comments"' in err, code, err)
    path = write(os.path.join(where, "second"), "8080\n80x\n")
    refused(["-p", "@" + path], f'{path}: line 2 column 1: found "80x", allowed: a port 1-65535, '
                                "a range or *")
    for bad in (os.path.join(where, "missing"), where):
        code, _, err = call(COMMAND, "run", "-p", "@" + bad, "--", "true")
        check(code == 64 and bad in err, bad, code, err)


BAD_OPTIONS = [
    (["-n", "0"], '-n: column 1: found "0", allowed: a number 1-1024 or auto'),
    (["-n", "-1"], '-n: column 1: found "-1", allowed: a number 1-1024 or auto'),
    (["-n", "1025"], '-n: column 1: found "1025", allowed: a number 1-1024 or auto'),
    (["-n", "4x"], '-n: column 1: found "4x", allowed: a number 1-1024 or auto'),
    (["-n", "AUTO"], '-n: column 1: found "AUTO", allowed: a number 1-1024 or auto'),
    (["-n", ""], "-n: column 1: found the end, allowed: a number 1-1024 or auto"),
    (["-n", "99999999999999999999"],
     '-n: column 1: found "99999999999999999999", allowed: a number 1-1024 or auto'),
    (["-w", "1001"], '-w: column 1: found "1001", allowed: a weight 0-1000'),
    (["-w", "-1"], '-w: column 1: found "-1", allowed: a weight 0-1000'),
    (["-w", "1.5"], '-w: column 1: found "1.5", allowed: a weight 0-1000'),
    (["-w", "2"], "-w: a weight of 2 is not supported by this version"),
    (["-g", ""], "-g: column 1: found the end, allowed: 1 to 63 of A-Z a-z 0-9 . _ -"),
    (["-g", "a b"], '-g: column 2: found " b", allowed: 1 to 63 of A-Z a-z 0-9 . _ -'),
    (["--grace", "1s"], '--grace: column 1: found "1s", allowed: seconds 0-86400'),
    (["--grace", "-1"], '--grace: column 1: found "-1", allowed: seconds 0-86400'),
    (["--restart", "maybe"],
     '--restart: column 1: found "maybe", allowed: always, on-failure or no'),
    (["--pin=1"], '--pin: found "1", allowed: no value'),
    (["--wrong"], 'run: unknown option "--wrong"; `sockshard run --help` lists them'),
    (["-x"], 'run: unknown option "-x"; `sockshard run --help` lists them'),
    (["-n"], None),
]

BAD_VARIABLES = [
    ("SOCKSHARD_GROUP", "a b", 'column 2: found " b", allowed: 1 to 63 of A-Z a-z 0-9 . _ -'),
    ("SOCKSHARD_SLOT", "x", 'column 1: found "x", allowed: 0-1023'),
    ("SOCKSHARD_SLOT", "1024", 'column 1: found "1024", allowed: 0-1023'),
    ("SOCKSHARD_WEIGHT", "1001", 'column 1: found "1001", allowed: 0-1000'),
    ("SOCKSHARD_WEIGHT", "heavy", 'column 1: found "heavy", allowed: 0-1000'),
    ("SOCKSHARD_WORKERS", "mine", 'column 1: found "mine", allowed: own or shared'),
    ("SOCKSHARD_STRICT", "yes", 'column 1: found "yes", allowed: 0 or 1'),
    ("SOCKSHARD_GENERATION", "-1", 'column 1: found "-1", allowed: 0-2147483647'),
    ("SOCKSHARD_KEEPER", "",
     "column 1: found the end, allowed: auto, off or a name of 1 to 107 visible characters"),
    ("SOCKSHARD_LIBRARY", "lib.so", 'column 1: found "lib.so", allowed: an absolute path'),
    ("SOCKSHARD_COMMAND", "bin/x", 'column 1: found "bin/x", allowed: an absolute path'),
]


@test(60, ALL)
def bad_options():
    for words, said in BAD_OPTIONS:
        if said:
            refused(words, said)
    for words in ([], ["run"], ["run", "-n", "2"], ["run", "-n"], ["run", "--"], ["wrong"],
                  ["--wrong"], ["status", "-x"], ["stop", "-x"], ["roll"], ["scale", "3"],
                  ["check", "-p"], ["keeper", "--name"]):
        code, out, err = call(COMMAND, *words)
        check(code == 64 and not out, words, code, out)
        check(re.fullmatch(r"sockshard: .*\n", err), "not one line of ours:", repr(err))


@test(60, ALL)
def bad_variables():
    for name, value, said in BAD_VARIABLES:
        refused([], f"{name}: {said}", env={name: value})
    code, _, err = call(COMMAND, "run", "--", "true", env={"SOCKSHARD_LOG": "loud"})
    check(code == 64 and err.startswith("sockshard: SOCKSHARD_LOG: ") and "loud" in err, code, err)


@test(60, ALL)
def a_bad_policy_switches_a_bare_preload_off():
    said = 'sockshard: SOCKSHARD_POLICY: column 1: found "80x", allowed: a port 1-65535, ' \
           "a range or *"
    server = [helper("support/ident_server"), "tcp", "127.0.0.1", PORT]
    plain = preloaded(*server, env={"SOCKSHARD_POLICY": "80x"})
    plain.says("^ready")
    check(tcp(PORT, b"?") == b"- %d\n" % plain.pid)
    check(plain.output().count(said) == 1, "did not say so once:", plain.output())
    second = preloaded(*server, env={"SOCKSHARD_POLICY": "80x"})
    check(second.wait() == 1 and "bind: Address already in use" in second.output())
    plain.end()
    strict = preloaded(*server, env={"SOCKSHARD_POLICY": "80x", "SOCKSHARD_STRICT": "1"})
    check(strict.wait() == 1, strict.output())
    check("bind: Invalid argument" in strict.output() and said in strict.output(), strict.output())


@test(60, ALL)
def commands_that_are_not_there():
    code, _, err = call(COMMAND, "run", "--", "/no/such/command")
    check(code == 127 and "/no/such/command" in err, code, err)
    path = write(os.path.join(folder(), "file"), "no program\n")
    code, _, err = call(COMMAND, "run", "--", path)
    check(code == 126 and path in err, code, err)


main()
