"""Files for the terminal (Feig, 08 14): it asks for block after block with 04 0C, the answer carries it."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import build_answer, tag
from drivers.terminal.zvt.frames import APDU_BYTES_MAX

# Control field and long length, container, 2D, 1D, 1E, 1C, and a message number, each with its length.
BLOCK_FRAME_BYTES = 5 + 4 + 4 + 3 + 6 + 4 + 6
FILE_ID, OFFSET, FILE, CONTENT, LONGEST = "1d", "1e", "2d", "1c", "1a"


class Files:
    """`contents` by file id. `max_apdu`: the longest message the terminal can take."""

    def __init__(self, contents: Mapping[int, bytes], max_apdu: int) -> None:
        self._contents, self._max_apdu = dict(contents), max_apdu

    @property
    def sizes(self) -> dict[int, int]:
        """For commands.write_file."""
        return {file_id: len(content) for file_id, content in self._contents.items()}

    def block(self, request: Apdu) -> tuple[Apdu, dict[str, int | str]] | None:
        """The answer to a 04 0C, and what was asked; None for what there is not."""
        name, where = request.values(FILE_ID), request.values(OFFSET)
        if not name or len(name[0]) != 1 or not where:
            return None
        file_id, offset = name[0][0], int.from_bytes(where[0], "big")
        content = self._contents.get(file_id, b"")
        part = content[offset : offset + self._room(request)]
        if not part:
            return None
        entry = tag(
            FILE, tag(FILE_ID, raw=name[0]), tag(OFFSET, raw=where[0]), tag(CONTENT, raw=part)
        )
        told: dict[str, int | str] = {"file_id": file_id, "offset": offset, "length": len(part)}
        return build_answer("8000", {}, (entry,)), told

    def _room(self, request: Apdu) -> int:
        """The terminal may tell its longest message with the request, too."""
        told = [int.from_bytes(value, "big") for value in request.values(LONGEST)]
        longest = min([self._max_apdu, APDU_BYTES_MAX, *told])
        return max(1, longest - BLOCK_FRAME_BYTES)
