"""A wire between a client and a server that loses things at chosen moments."""

from __future__ import annotations

import base64
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

QUIET_SECONDS = 0.2  # a request has ended when nothing has followed for this long


@dataclass
class Loss:
    """After these words have passed on one connection, in this order: lose the answer to the last.

    late_seconds: the request itself arrives only so long after its sender was cut off.
    """

    words: tuple[bytes, ...]
    times: int = 1
    late_seconds: float | None = None


class Proxy:
    """Listens on 127.0.0.1:port and passes on what comes to the upstream port.

    lost: how many answers were not passed on. user: asks, as a web server before MLflow does, for
    this "name:password".
    """

    def __init__(self, upstream: int, user: str = "") -> None:
        self._upstream = upstream
        self._expected = b"Basic " + base64.b64encode(user.encode()) if user else b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.loss: Loss | None = None
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._upstream))
        with client, server, suppress(OSError):
            self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        seen, losing = 0, False
        while True:
            readable, _, _ = select.select([client, server], [], [])
            if client in readable:
                content = client.recv(2**16)
                if not content:
                    return
                asks = content[:5] in (b"GET /", b"POST ", b"PATCH")
                if asks and self._expected not in content:
                    client.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                    return
                while self.loss and seen < len(words := self.loss.words) and words[seen] in content:
                    seen += 1
                if self.loss and seen == len(self.loss.words):
                    seen, losing, late = 0, True, self.loss.late_seconds
                    self._take_loss()
                    if late is not None:
                        content += _rest(client)
                        client.close()
                        time.sleep(late)
                        server.sendall(content)
                        server.recv(2**16)
                        return
                server.sendall(content)
            if server in readable:
                content = server.recv(2**16)
                if losing or not content:
                    return
                client.sendall(content)

    def _take_loss(self) -> None:
        assert self.loss is not None
        self.lost += 1
        self.loss.times -= 1
        if not self.loss.times:
            self.loss = None


def _rest(client: socket.socket) -> bytes:
    client.settimeout(QUIET_SECONDS)
    content = b""
    with suppress(TimeoutError):
        while more := client.recv(2**16):
            content += more
    return content


@contextmanager
def proxy_to(port: int, user: str = "") -> Iterator[Proxy]:
    proxy = Proxy(port, user)
    try:
        yield proxy
    finally:
        proxy.close()
