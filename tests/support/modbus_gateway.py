"""A Modbus TCP gateway in front of a serial line, as boxes in a switch cabinet are one: a request with its
number in, RTU on the line, the reply with the number out. A thread of its own; shares no code with the
drivers.

with gateway(meter.link) as port:
    ...   # modbus-tcp://127.0.0.1:{port}
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

from support.rtu_slave import crc

# A reply is over after so much silence; the meters of these tests answer within a few milliseconds.
SILENCE_S = 0.05
# A gateway gives up on a unit after this and says so with exception 11.
WAIT_S = 0.3
NO_REPLY = 11


@contextlib.contextmanager
def gateway(line: Path) -> Iterator[int]:
    """Serves one client after the other, as simple boxes do; gives the TCP port."""
    fd = os.open(line, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, fd))
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            os.close(fd)


def _serve(server: socket.socket, fd: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            with client, contextlib.suppress(EOFError, OSError):
                while True:
                    number, protocol, length = struct.unpack(">HHH", _exactly(client, 6))
                    assert protocol == 0
                    reply = _ask(fd, _exactly(client, length))
                    client.sendall(struct.pack(">HHH", number, 0, len(reply)) + reply)


def _exactly(client: socket.socket, many: int) -> bytes:
    data = b""
    while len(data) < many:
        more = client.recv(many - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _ask(fd: int, request: bytes) -> bytes:
    os.write(fd, crc(request))
    reply, wait_s = b"", WAIT_S
    while select.select([fd], [], [], wait_s)[0]:
        reply, wait_s = reply + os.read(fd, 256), SILENCE_S
    if len(reply) < 5 or crc(reply[:-2]) != reply:
        return bytes([request[0], request[1] | 0x80, NO_REPLY])
    return reply[:-2]
