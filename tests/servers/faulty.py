"""A proxy before an S3 server that fails as networks and S3 do, when it is told to; it never changes a byte.

The client signs the proxy's name; the request goes on with that ``Host``, so the server finds the signature right.
"""

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PIECE = 1 << 16
HOPS = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}
ERRORS = {"slow": (503, "SlowDown", "Please reduce your request rate."), "error": (500, "InternalError", "Please try again.")}
# slow, error: S3's own refusals, before anything is done    drop: the connection ends before anything is done
# lost: it is done, and the connection ends before the answer    half: ends half-way through the answer's body
# silent: no answer, as long as the client waits    a number: seconds of delay, then the answer
FAULTS = (*ERRORS, "drop", "lost", "half", "silent")


@dataclass
class Request:
    """One that came: which it was of all, what it asked for, what was done to it, the bytes of both bodies, the server's status."""

    number: int
    method: str
    path: str
    range: str | None
    fault: str | float | None
    received: int
    sent: int = 0
    status: int = 0


Plan = Callable[[int, str, str], str | float | None]


def share(seed: int = 0, **shares: float) -> Plan:
    """Faults by chance: ``share(slow=0.2, drop=0.05)``; the same requests of the same seed fail."""
    if unknown := shares.keys() - set(FAULTS):
        raise ValueError(f"unknown faults {unknown}; known: {FAULTS}")

    def plan(number, method, path):
        at = random.Random(f"{seed}/{number}").random()
        for fault, part in shares.items():
            at -= part
            if at < 0:
                return fault
        return None

    return plan


def script(faults: Iterable, method: str = "", path: str = "") -> Plan:
    """Faults in turn for the requests of a method and a path (a pattern), None for none; when they are used up, none."""
    left, lock = iter(faults), threading.Lock()

    def plan(_number, asked, where):
        if (method and asked != method) or not re.search(path, where):
            return None
        with lock:
            return next(left, None)

    return plan


class Faulty(ThreadingHTTPServer):
    """``endpoint`` stands for the server; ``plan`` may be changed at any time; ``requests`` tells what was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, endpoint: str, plan: Plan | None = None):
        super().__init__(("127.0.0.1", 0), Answer)
        self.behind, self.plan = urlsplit(endpoint).netloc, plan
        self.lock, self.number, self.requests, self.stopped = threading.Lock(), 0, [], threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next(self, method: str, path: str) -> tuple[int, str | float | None]:
        with self.lock:
            self.number += 1
            return self.number, self.plan(self.number, method, path) if self.plan else None

    def methods(self) -> Counter:
        return Counter(r.method for r in self.requests)

    def faults(self) -> Counter:
        return Counter(r.fault for r in self.requests if r.fault is not None)

    def ranged(self) -> list[Request]:
        return [r for r in self.requests if r.range]

    def clear(self, plan: Plan | None = None) -> None:
        """Forget what was asked; a new plan."""
        self.requests, self.plan = [], plan

    def handle_error(self, request, client_address):
        pass  # connections that are dropped on purpose


@contextmanager
def faulty(endpoint: str, plan: Plan | None = None):
    """A ``Faulty`` before a server: ``with faulty(server.endpoint, share(slow=0.2)) as proxy: server.address("x", proxy.endpoint)``."""
    proxy = Faulty(endpoint, plan)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopped.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()


class Answer(BaseHTTPRequestHandler):
    server: Faulty
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        number, fault = self.server.next(self.command, self.path)
        self.told = Request(number, self.command, self.path, self.headers.get("Range"), fault, len(body))
        self.server.requests.append(self.told)
        self.give(fault, body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def give(self, fault, body: bytes) -> None:
        if fault in ERRORS:
            self.refuse(*ERRORS[fault])
            return
        if fault == "silent":
            self.server.stopped.wait()
        if isinstance(fault, (int, float)):
            time.sleep(fault)
        if fault in ("drop", "silent"):
            self.reset()
            return
        self.forward(body, fault)

    def refuse(self, status: int, code: str, says: str) -> None:
        xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{says}</Message><RequestId>1</RequestId></Error>'
        content = b"" if self.command == "HEAD" else xml.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def reset(self) -> None:
        """End the connection with an RST, as a machine that is gone does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def forward(self, body: bytes, fault) -> None:
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        try:
            behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOPS:
                    behind.putheader(name, value)
            if body or self.command in ("PUT", "POST"):
                behind.putheader("Content-Length", str(len(body)))
            behind.endheaders(body or None)
            self.back(behind.getresponse(), fault)
        finally:
            behind.close()

    def back(self, answer: http.client.HTTPResponse, fault) -> None:
        self.told.status = answer.status
        if fault == "lost":
            self.reset()
            return
        pieces: Iterable[bytes] = iter(lambda: answer.read(PIECE), b"")
        size = answer.getheader("Content-Length")
        if size is None:
            pieces = [answer.read()]
            size = str(len(pieces[0]))
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOPS:
                self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", size)
        self.end_headers()
        for piece in pieces:
            if fault == "half" and self.told.sent + len(piece) > int(size) // 2:
                self.send(piece[: int(size) // 2 - self.told.sent])
                time.sleep(0.02)  # what was sent is read before the reset
                self.reset()
                return
            self.send(piece)

    def send(self, piece: bytes) -> None:
        self.told.sent += len(piece)  # before: whoever has it may ask what was sent
        self.wfile.write(piece)
