"""Servers that bind once and fork their workers, each with an own configuration in a folder of its own,
and what is asked of all of them: who answered, and who has which listening socket. Started by root
they work as www-data; else as who we are."""

import collections
import glob
import os
import re
import select
import shutil
import signal
import socket
import struct
import time

from harness import *
from programs import HAPROXY_DEFAULTS

WORKERS = 4
GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"
ROOT = os.getuid() == 0
AS = "www-data"  # whom the workers of root's servers become


class Server:
    """A command in the foreground, its folder, and how its answers tell who answered."""

    def __init__(self, argv, where, port, *, question=GET, who=rb"\r\n\r\n(\d+)", log=None, env=None,
                 cwd=None, parent_serves=False):
        self.argv, self.where, self.port = argv, where, port
        self.question, self.who, self.log = question, re.compile(who), log
        self.env, self.cwd = env or {}, cwd
        self.parent_serves = parent_serves
        self.process = self.accepted = None

    def start(self, with_us, env=None):
        """Its own connections are noted in self.accepted, which must be a file then."""
        env, more = {**self.env, **(env or {})}, {}
        if self.accepted:
            env["ACCEPTED"] = self.accepted
            noting = helper("preload/lib_accepted")
            if with_us:
                more["before"] = [noting]
            else:
                env["LD_PRELOAD"] = noting
        begin = preloaded if with_us else Process
        # apache ends its whole process group
        self.process = begin(*self.argv, env=env, cwd=self.cwd, start_new_session=True, **more)
        until(30, f"{self.argv[0]} on port {self.port}", lambda: not refuses(self.port))
        return self

    @property
    def pid(self):
        return self.process.pid

    def workers(self):
        return children(self.pid) | ({self.pid} if self.parent_serves else set())

    def stop(self):
        alone = self.workers() if self.parent_serves else set()  # nobody ends the others
        self.process.end()
        for pid in alone - {self.pid}:
            if not ended(pid):
                os.kill(pid, signal.SIGTERM)
        until(10, f"a free port {self.port}", lambda: refuses(self.port))

    def answered(self, n, at_a_time=32):
        """n connections; Counter of worker -> those it answered, by the reply or by the log"""
        begin = os.path.getsize(self.log) if self.log else 0
        answers = ask(self.port, self.question, n, at_a_time)
        if self.log:
            return self._logged(begin, n)
        found = collections.Counter()
        for answer in answers:
            match = self.who.search(answer)
            check(match, f"{self.argv[0]} answered {answer!r}")
            found[int(match[1])] += 1
        return found

    def _logged(self, begin, n):
        def lines():
            with open(self.log) as file:
                file.seek(begin)
                found = file.read().split()
            return found if len(found) >= n else None

        found = until(10, f"{n} lines in {self.log}", lines)
        check(len(found) == n, f"{len(found)} lines for {n} connections in {self.log}")
        return collections.Counter(int(pid) for pid in found)


def master(server):
    """By its pid file; None while that is not there or being written."""
    try:
        with open(f"{server.where}/pid") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return None


def ask(port, question, n, at_a_time):
    """The answers to n connections, some at a time, each to its end. A failure is a Failure."""
    poller, clients, answers, begun = select.epoll(), {}, [], 0
    reset = struct.pack("ii", 1, 0)
    seconds = 60 + n // 100
    end = time.monotonic() + seconds
    while len(answers) < n:
        while begun < n and len(clients) < at_a_time:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            client.sendall(question)
            client.setblocking(False)
            clients[client.fileno()] = [client, b""]
            poller.register(client, select.EPOLLIN)
            begun += 1
        for number, _ in poller.poll(10):
            entry = clients[number]
            try:
                more = entry[0].recv(65536)
            except OSError as error:
                raise Failure(f"connection {len(answers)} of {n}: {error!r} after {entry[1]!r}")
            entry[1] += more
            if not more:
                check(entry[1], f"connection {len(answers)} of {n}: closed without an answer")
                answers.append(entry[1])
                entry[0].close()
                del clients[number]
        check(time.monotonic() < end, f"{len(answers)} of {n} answered after {seconds} s")
    return answers


def unevenness(counts, workers=WORKERS):
    """max/mean of the shares of so many workers"""
    return max(counts.values()) * workers / sum(counts.values())


# --- who has which socket


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return {int(word) for word in file.read().split()}


def listeners(port):
    """inode of each listening socket -> pids that have it, the keeper's left out"""
    _, out, _ = call(need("ss"), "-Hltnpe", f"sport = :{port}")
    found = {}
    for line in out.splitlines():
        held = re.findall(r'\("([^"]*)",pid=(\d+)', line)
        inode = int(re.search(r"\bino:(\d+)", line)[1])
        found[inode] = {int(pid) for name, pid in held if name != "sockshard"}
    return found


def own_sockets(port, workers):
    """Has each of these processes exactly one listening socket, which no other of them has? There may be
    one more, which their master keeps for the next one."""
    held = [pids & set(workers) for pids in listeners(port).values()]
    return max(map(len, held), default=0) == 1 and sorted(
        pid for pids in held for pid in pids) == sorted(workers)


# --- configurations


def shared_folder(**files):
    """A folder with files in it that www-data may read, and write to"""
    where = folder()
    for name, text in files.items():
        write(os.path.join(where, name.replace("__", ".")), text)
    return where


def nginx(port, workers=WORKERS, listen="", where=None, daemon="off",
          env=("LD_PRELOAD", "SOCKSHARD_LOG")):
    """listen: more words of its listen line. env: what its master keeps for its next binary"""
    where = where or folder()
    user = f"user {AS};" if ROOT else ""
    kept = "".join(f"env {name}; " for name in env)
    write(
        os.path.join(where, "nginx.conf"),
        f"""daemon {daemon}; {user} {kept} worker_processes {workers}; pid {where}/pid;
        error_log {where}/error; events {{ worker_connections 512; }}
        http {{
            access_log off;
            client_body_temp_path {where}/body; proxy_temp_path {where}/proxy;
            fastcgi_temp_path {where}/fastcgi; uwsgi_temp_path {where}/uwsgi;
            scgi_temp_path {where}/scgi;
            server {{ listen 127.0.0.1:{port} {listen}; return 200 "$pid\\n"; }}
        }}
        """,
    )
    argv = [need("nginx"), "-e", f"{where}/error", "-p", where, "-c", f"{where}/nginx.conf"]
    return Server(argv, where, port)


def lighttpd(port, workers=WORKERS):
    where = shared_folder(index__html="hello\n")
    user = f'server.username = "{AS}"\nserver.groupname = "{AS}"' if ROOT else ""
    write(
        os.path.join(where, "lighttpd.conf"),
        f"""server.document-root = "{where}"
server.bind = "127.0.0.1"
server.port = {port}
server.max-worker = {workers}
server.pid-file = "{where}/pid"
server.errorlog = "{where}/error"
index-file.names = ("index.html")
{user}
""",
    )
    # It tells nobody which of its processes has answered.
    return Server([need("lighttpd"), "-D", "-f", f"{where}/lighttpd.conf"], where, port, who=rb" (200) ")


WSGI = """import os

def application(environ, start_response):
    body = b"%d\\n" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


def gunicorn(port, kind="sync", workers=WORKERS, more=()):
    where = shared_folder(app__py=WSGI)
    who = ["-u", AS, "-g", AS] if ROOT else []
    argv = [need("gunicorn"), "-k", kind, "-w", workers, "-b", f"127.0.0.1:{port}", "-p", f"{where}/pid",
            "--chdir", where, "--worker-tmp-dir", where, "--graceful-timeout", 10, *who, *more]
    argv += ["--threads", 4] if kind == "gthread" else []
    return Server([*argv, "app"], where, port, env={"PYTHONDONTWRITEBYTECODE": 1})


def gthread(port):
    return gunicorn(port, "gthread")


ASGI = """import os

async def application(scope, receive, send):
    body = b"%d\\n" % os.getpid()
    head = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
"""


def hypercorn(port, workers=WORKERS):
    """Its master binds, and each worker calls listen. It calls a lifespan, which may fail."""
    where = shared_folder(app__py=ASGI)
    argv = [need("hypercorn"), "--workers", workers, "--bind", f"127.0.0.1:{port}", "app:application"]
    return Server(argv, where, port, cwd=where, env={"PYTHONDONTWRITEBYTECODE": 1})


def uwsgi(port, workers=WORKERS, more=(), master=True):
    where = shared_folder(app__py=WSGI)
    who = ["--uid", AS, "--gid", AS] if ROOT else []
    argv = [need("uwsgi"), "--plugins", "python3", "--http-socket", f"127.0.0.1:{port}",
            "--processes", workers, "--chdir", where, "--wsgi-file", f"{where}/app.py",
            "--pidfile2", f"{where}/pid", "--die-on-term", "--disable-logging", "--listen", 100, *who, *more]
    argv += ["--master"] if master else []
    return Server(argv, where, port, env={"PYTHONDONTWRITEBYTECODE": 1}, parent_serves=not master)


def uwsgi_without_master(port):
    """Its first process is a worker too."""
    return uwsgi(port, master=False)


def uwsgi_thunder_lock(port):
    return uwsgi(port, more=["--thunder-lock"])


APACHE_MODULES = ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/apache2")


def apache(port, mpm, ports=(), mutex=None):
    """ports: more of them to listen on; mutex: what prefork serialises accepts by then. Who answered is in
    its log."""
    where = shared_folder(index__html="hello\n", access="")
    os.chmod(f"{where}/access", 0o666)
    # More threads than clients: a busy child of the event MPM (2.4.71) can forget to listen again.
    pool = {
        "prefork": f"MinSpareServers {WORKERS}\nMaxSpareServers {WORKERS}\nMaxRequestWorkers {WORKERS}",
        "event": f"ThreadLimit 40\nThreadsPerChild 40\nMinSpareThreads {40 * WORKERS}\n"
                 f"MaxSpareThreads {80 * WORKERS}\nMaxRequestWorkers {40 * WORKERS}",
    }[mpm]
    program = need("apache2" if shutil.which("apache2") else "httpd")
    modules = next(filter(os.path.isdir, APACHE_MODULES), "")
    load = "".join(
        f"LoadModule {name}_module {modules}/mod_{name}.so\n"
        for name in (f"mpm_{mpm}", "authz_core", "dir", "log_config", "unixd")
        if os.path.exists(f"{modules}/mod_{name}.so")  # else it is built in
    )
    write(
        os.path.join(where, "apache.conf"),
        f"""ServerRoot {where}
{load}
ServerName localhost
PidFile {where}/pid
DefaultRuntimeDir {where}
{f'Mutex {mutex} mpm-accept' if mutex else ''}
ErrorLog /dev/stderr
LogFormat %P pid
CustomLog {where}/access pid
{f'User {AS}' if ROOT else ''}
{f'Group {AS}' if ROOT else ''}
ServerLimit {2 * WORKERS if mpm == "event" else WORKERS}
StartServers {WORKERS}
{pool}
{chr(10).join(f'Listen 127.0.0.1:{p}' for p in (port, *ports))}
DocumentRoot {where}
DirectoryIndex index.html
<Directory {where}>
Require all granted
</Directory>
""",
    )
    argv = [program, "-D", "FOREGROUND", "-f", f"{where}/apache.conf"]
    return Server(argv, where, port, log=f"{where}/access")


def haproxy(port, shards=2):
    """A master that becomes itself anew by exec; one worker with several sharing sockets, which the next
    worker gets from the one before by SCM_RIGHTS."""
    where = shared_folder()
    write(
        os.path.join(where, "haproxy.cfg"),
        f"""global
    nbthread {shards}
    stats socket {where}/socket level admin expose-fd listeners
{HAPROXY_DEFAULTS}frontend hello
    bind 127.0.0.1:{port} shards {shards}
    http-request return status 200 content-type text/plain lf-string "%pid\\n" hdr connection close
""",
    )
    argv = [need("haproxy"), "-W", "-db", "-f", f"{where}/haproxy.cfg", "-p", f"{where}/pid"]
    return Server(argv, where, port)


def apache_prefork(port):
    return apache(port, "prefork")


def apache_event(port):
    return apache(port, "event")


def php_fpm(port, manager="static"):
    where = shared_folder(pid__php="<?php echo getmypid();\n")
    who = f"user = {AS}\ngroup = {AS}" if ROOT else ""
    write(
        os.path.join(where, "fpm.conf"),
        f"""[global]
daemonize = no
error_log = /dev/stderr
pid = {where}/pid
[www]
{who}
listen = 127.0.0.1:{port}
pm = {manager}
pm.max_children = {WORKERS}
""",
    )
    found = sorted(glob.glob("/usr/sbin/php-fpm*"))
    check(found, "missing program: php-fpm (`make deps` installs it)")
    return Server([found[-1], "-n", "-F", "-y", f"{where}/fpm.conf"], where, port,
                  question=_fastcgi(f"{where}/pid.php"))


def php_fpm_ondemand(port):
    return php_fpm(port, "ondemand")


def _fastcgi(script):
    """One request of a responder, as the FastCGI specification 1.0 has it, section 3 and appendix B."""

    def record(kind, body):
        return struct.pack("!BBHHBx", 1, kind, 1, len(body), 0) + body

    pairs = {"SCRIPT_FILENAME": script, "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/pid.php",
             "REQUEST_URI": "/pid.php", "SERVER_PROTOCOL": "HTTP/1.1"}
    parameters = b"".join(bytes([len(name), len(value)]) + (name + value).encode()
                          for name, value in pairs.items())
    begin = struct.pack("!HB5x", 1, 0)  # responder; the connection ends with the answer
    return record(1, begin) + record(4, parameters) + record(4, b"") + record(5, b"")


def unicorn(port):
    where = shared_folder(
        config__ru="run lambda { |env| [200, {'Content-Type' => 'text/plain'}, [Process.pid.to_s]] }\n")
    user = f"user '{AS}', '{AS}'" if ROOT else ""
    write(
        os.path.join(where, "unicorn.rb"),
        f"worker_processes {WORKERS}\nlisten '127.0.0.1:{port}'\npid '{where}/pid'\n{user}\n",
    )
    return Server([need("unicorn"), "-E", "none", "-c", f"{where}/unicorn.rb", f"{where}/config.ru"],
                  where, port, cwd=where)


def puma(port):
    """Without its queue: a worker that stops closes what waits there (5.6)."""
    where = shared_folder(
        config__ru="run lambda { |env| [200, {'Connection' => 'close'}, [Process.pid.to_s]] }\n")
    write(
        os.path.join(where, "puma.rb"),
        f"""workers {WORKERS}
threads 1, 4
bind 'tcp://127.0.0.1:{port}'
pidfile '{where}/pid'
environment 'none'
queue_requests false
quiet
rackup '{where}/config.ru'
""",
    )
    return Server([need("puma"), "-C", f"{where}/puma.rb"], where, port, cwd=where)


def node_cluster(port):
    script = f"""const cluster = require('cluster'), http = require('http');
if (cluster.isPrimary) {{
    for (let i = 0; i < {WORKERS}; i++) cluster.fork();
    process.on('SIGTERM', () => {{
        for (const id in cluster.workers) cluster.workers[id].process.kill('SIGTERM');
    }});
    cluster.on('exit', () => Object.keys(cluster.workers).length || process.exit(0));
}} else {{
    process.on('SIGTERM', () => process.exit(0)); // else its end is a crash
    http.createServer((q, a) => {{
        a.setHeader('Connection', 'close');
        a.end(process.pid + '\\n');
    }}).listen({port}, '127.0.0.1');
}}
"""
    where = shared_folder(server__js=script)
    return Server([need("node"), f"{where}/server.js"], where, port,
                  env={"NODE_CLUSTER_SCHED_POLICY": "none"})
