"""A local web server with configurable responses."""

import http.server
import ssl
import threading
from dataclasses import dataclass, field


@dataclass
class Answer:
    """A response. `length` is the Content-Length header: -1 is the length of the body, None omits the header."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1


@dataclass
class Site:
    """Responses by path and the recorded requests. The last response of a list repeats."""

    port: int
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    def give(self, path: str, *answers: Answer, host: str = "127.0.0.1") -> str:
        self.answers[path] = list(answers)
        return f"http://{host}:{self.port}{path}"


def start(tls: ssl.SSLContext | None = None) -> tuple[http.server.ThreadingHTTPServer, Site]:
    """Serve on a free port until the server is shut down, with TLS if a context is given."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers.items())))
            known = site.answers.get(self.path.partition("?")[0], [Answer(status=404)])
            answer = known.pop(0) if len(known) > 1 else known[0]
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.length is not None:
                self.send_header("Content-Length", str(len(answer.body) if answer.length < 0 else answer.length))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(server.server_port)
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: site.server_names.append(name)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, site
