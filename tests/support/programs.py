"""Commands of real servers, one process each, with a configuration in a folder of its own. They answer
"hello" at 127.0.0.1, or at every address, unless they are told otherwise."""

from harness import *


def python_http(port):
    where = folder()
    write(os.path.join(where, "index.html"), "hello\n")
    return [need("python3"), "-m", "http.server", "-d", where, port]


def node_http(port, work_ms=0):
    work = f"setTimeout(() => a.end('hello\\n'), {work_ms})" if work_ms else "a.end('hello\\n')"
    script = write(
        os.path.join(folder(), "server.js"),
        f"require('http').createServer((q, a) => {work}).listen(+process.argv[2]);\n",
    )
    return [need("node"), script, port]


def nginx(listen, serve='return 200 "hello\\n";', http="", log="stderr"):
    """serve: what its server does, else it has a folder with "hello" in it. http: more of the block."""
    where = folder()
    write(os.path.join(where, "index.html"), "hello\n")
    user = "user root root;" if os.getuid() == 0 else ""  # else it gives its folders to nobody
    config = write(
        os.path.join(where, "nginx.conf"),
        f"""daemon off; master_process off; {user} pid {where}/pid; error_log {log};
        events {{ worker_connections 4096; }}
        http {{
            access_log off;
            client_body_temp_path {where}/body; proxy_temp_path {where}/proxy;
            fastcgi_temp_path {where}/fastcgi; uwsgi_temp_path {where}/uwsgi;
            scgi_temp_path {where}/scgi;
            {http}
            server {{ listen {listen}; root {where}; {serve} }}
        }}
        """,
    )
    return [need("nginx"), "-e", "stderr", "-p", where, "-c", config]


HAPROXY_DEFAULTS = """defaults
    mode http
    timeout client 20s
    timeout connect 5s
    timeout server 20s
"""


def haproxy(port, frontend="", more=""):
    """It sets SO_REUSEPORT itself. frontend: lines before its answer; more: sections"""
    config = write(
        os.path.join(folder(), "haproxy.cfg"),
        f"""global
    nbthread 1
{HAPROXY_DEFAULTS}frontend hello
    bind 127.0.0.1:{port}
    {frontend}
    http-request return status 200 content-type text/plain string "hello"
{more}
""",
    )
    return [need("haproxy"), "-db", "-f", config]


def redis(port, *words):
    return [need("redis-server"), "--port", port, "--save", "", "--appendonly", "no",
            "--dir", folder(), "--protected-mode", "no", *words]


def java_http(port, work_ms=0):
    where = folder()
    source = write(
        os.path.join(where, "Hello.java"),
        f"""import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Hello {{
    public static void main(String[] args) throws Exception {{
        HttpServer server = HttpServer.create(
            new InetSocketAddress(Integer.parseInt(args[0])), 0);
        server.createContext("/", exchange -> {{
            byte[] text = "hello\\n".getBytes();
            try {{
                Thread.sleep({work_ms});
            }} catch (InterruptedException e) {{
                return;
            }}
            exchange.getResponseHeaders().set("Connection", "close");
            exchange.sendResponseHeaders(200, text.length);
            exchange.getResponseBody().write(text);
            exchange.close();
        }});
        server.start();
    }}
}}
""",
    )
    code, _, err = call(need("javac"), "-d", where, source, seconds=100)
    check(code == 0, err)
    return [need("java"), "-Xmx64m", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp", where,
            "Hello", port]
