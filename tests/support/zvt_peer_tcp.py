"""The same terminal behind TCP: no blocks and no ACKs, messages by their length, a connection that ends."""

from __future__ import annotations

import random

from support.zvt_peer import Cable, LinkDown, Terminal
from support.zvt_wires import Carry, Wire


class StreamTerminal(Terminal):
    """What it says belongs to the connection on which it was asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stream = bytearray()
        self._asked_on = 0

    def connected(self) -> None:
        """A new connection: what was left of the old one is gone."""
        self._stream.clear()
        while not self._messages.empty():
            self._messages.get_nowait()

    def receive(self, data: bytes) -> None:
        if self.silent:
            return
        self._stream += data
        while len(self._stream) >= 3 and len(self._stream) >= 3 + self._stream[2]:
            size = 3 + self._stream[2]
            self._messages.put_nowait(bytes(self._stream[:size]))
            del self._stream[:size]

    async def say(self, message: bytes) -> None:
        if self.cable.lost is not None or self._asked_on != self.cable.opened:
            raise LinkDown
        self.cable.to_ecr(message)

    async def _execute(self, command: bytes) -> None:
        self._asked_on = self.cable.opened
        await super()._execute(command)


class StreamCable(Cable):
    """`unplug` cuts the connection and refuses new ones."""

    def __init__(self, carry: Carry, seed: int) -> None:
        super().__init__(carry, seed)
        self._how = carry

    def _terminal(self, rng: random.Random) -> Terminal:
        return StreamTerminal(self, rng)

    def _dial(self) -> None:
        super()._dial()
        assert isinstance(self.terminal, StreamTerminal)
        self._out.cut = self._back.cut = True
        self._out = Wire(self._how, self.rng, self.terminal.receive)
        self._back = Wire(self._how, self.rng, self._arrived)
        self.terminal.connected()
