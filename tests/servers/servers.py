#!/usr/bin/env python3
"""Four copies of real servers on one port: 4,000 connections, all answered, even shares."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *

PORT = 8080
COPIES = 4
CONNECTIONS = 4000
GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"


def even_shares(*argv, question=GET, answer=b"HTTP/1.", ending=b"", seconds=60):
    """Copies of a command answer every connection, and each gets its share of them."""
    launcher = run(COPIES, *argv, seconds=seconds)
    until_live(COPIES, PORT)
    before = accepted()  # a server may ask itself whether it is ready
    for _ in range(CONNECTIONS):
        got = tcp(PORT, question, ending=ending)
        check(got.startswith(answer) and got.endswith(ending), "answered", got)
    after = accepted()
    check(len(after) == COPIES, "slots:", after)
    counts = [after[slot] - before[slot] for slot in sorted(after)]
    print("accepted:", counts)
    check(sum(counts) == CONNECTIONS, f"{sum(counts)} connections counted, not {CONNECTIONS}")
    for share in counts:
        check(0.2 <= share / CONNECTIONS <= 0.3, "a share is not a quarter:", counts)
    check(group(PORT)["steered"] and not group(PORT)["strangers"], status())
    stop(launcher, PORT)


def accepted():
    return {s["slot"]: s["accepted"] for s in group(PORT)["slots"]}


@test(120, ALL)
def python_http_server():
    where = folder()
    write(os.path.join(where, "index.html"), "hello\n")
    even_shares(need("python3"), "-m", "http.server", "-d", where, PORT, ending=b"hello\n")


@test(120, ALL)
def node_http():
    script = write(
        os.path.join(folder(), "server.js"),
        "require('http').createServer((q, a) => a.end('hello\\n')).listen(+process.argv[2]);\n",
    )
    even_shares(need("node"), script, PORT)


@test(120, ALL)
def nginx():
    where = folder()
    user = "user root root;" if os.getuid() == 0 else ""  # else it gives its folders to nobody
    config = write(
        os.path.join(where, "nginx.conf"),
        f"""daemon off; master_process off; {user} pid {where}/pid; error_log stderr;
        events {{ }}
        http {{
            access_log off;
            client_body_temp_path {where}/body; proxy_temp_path {where}/proxy;
            fastcgi_temp_path {where}/fastcgi; uwsgi_temp_path {where}/uwsgi;
            scgi_temp_path {where}/scgi;
            server {{ listen {PORT}; return 200 "hello\\n"; }}
        }}
        """,
    )
    even_shares(need("nginx"), "-e", "stderr", "-p", where, "-c", config)


@test(120, ALL)
def redis():
    even_shares(
        need("redis-server"), "--port", PORT, "--save", "", "--appendonly", "no",
        "--dir", folder(), "--protected-mode", "no",
        question=b"PING\r\n", answer=b"+PONG", ending=b"\r\n",
    )


@test(120, ALL)
def memcached():
    # started by root it wants to be told whose rights to keep
    who = ["-u", "root"] if os.getuid() == 0 else []
    even_shares(
        need("memcached"), "-p", PORT, "-U", 0, "-t", 1, *who,
        question=b"version\r\n", answer=b"VERSION ", ending=b"\r\n",
    )


@test(120, ALL)
def haproxy():
    # sets SO_REUSEPORT itself
    config = write(
        os.path.join(folder(), "haproxy.cfg"),
        f"""global
    nbthread 1
defaults
    mode http
    timeout client 20s
    timeout connect 5s
    timeout server 20s
frontend hello
    bind 127.0.0.1:{PORT}
    http-request return status 200 content-type text/plain string "hello"
""",
    )
    even_shares(need("haproxy"), "-db", "-f", config)


@test(120, ALL)
def lighttpd():
    where = folder()
    write(os.path.join(where, "index.html"), "hello\n")
    config = write(
        os.path.join(where, "lighttpd.conf"),
        f"""server.port = {PORT}
server.bind = "127.0.0.1"
server.document-root = "{where}"
server.upload-dirs = ( "{where}" )
index-file.names = ( "index.html" )
""",
    )
    even_shares(need("lighttpd"), "-D", "-f", config, ending=b"hello\n")


@test(180, ALL)
def java_http_server():
    where = folder()
    source = write(
        os.path.join(where, "Hello.java"),
        """import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Hello {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(
            new InetSocketAddress(Integer.parseInt(args[0])), 0);
        server.createContext("/", exchange -> {
            byte[] text = "hello\\n".getBytes();
            exchange.getResponseHeaders().set("Connection", "close");
            exchange.sendResponseHeaders(200, text.length);
            exchange.getResponseBody().write(text);
            exchange.close();
        });
        server.start();
    }
}
""",
    )
    code, _, err = call(need("javac"), "-d", where, source, seconds=100)
    check(code == 0, err)
    java = [need("java"), "-Xmx64m", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
    even_shares(*java, "-cp", where, "Hello", PORT, ending=b"hello\n", seconds=100)


main()
