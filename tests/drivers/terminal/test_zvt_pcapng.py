"""The trace of a terminal's dialogues: its form, its bounds, no card in it, and that Wireshark reads it."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pcapng import Packet, packets
from support.simulator import Simulator
from support.tree import ROOT
from support.zvt_card_frames import told_digits

from agent.ports import (
    DeviceUnavailable,
    Done,
    DriverEnv,
    Evidence,
    LineSpec,
    TerminalSpec,
    Verdict,
)
from agent.values import Money
from drivers.terminal.zvt import trace as trace_module
from drivers.terminal.zvt.codec import decode
from drivers.terminal.zvt.frames import frame
from drivers.terminal.zvt.primitives import Malformed
from drivers.terminal.zvt.recorder import Recorder, TracedLink
from drivers.terminal.zvt.tcp_link import StreamLink
from drivers.terminal.zvt.terminal import open_terminal
from drivers.terminal.zvt.trace import RECEIVED, SENT, Trace

VECTORS = ROOT.parent / "shared" / "vectors" / "zvt.json"
STATUS, ANSWER = bytes.fromhex("050103123456"), bytes.fromhex("800000")
RESULT = bytes.fromhex("040f12270004000000005000" + "22f0f6" + "41111111111f")
# What Wireshark's dissector knows (4.0), beside answers; other commands are data to it without their frame.
KNOWN_TO_WIRESHARK = frozenset(
    [
        "0600",
        "0601",
        "0630",
        "0631",
        "0650",
        "0670",
        "0693",
        "040f",
        "04ff",
        "060f",
        "061e",
        "06d1",
        "06d3",
    ]
)
PANS = ("4111111111111111", "5555555555554444")


# --- The file -------------------------------------------------------------------------------------


def test_both_forms_with_direction_and_time(tmp_path: Path) -> None:
    file = tmp_path / "t.pcapng"
    before_ms = time.time_ns() // 1_000_000
    trace = Trace(file, 5_000)
    trace.sent(STATUS, 5_000)
    trace.received(ANSWER, 5_013)
    trace.received(RESULT, 7_000)
    trace.close()
    trace.sent(STATUS, 9_000)  # closed is closed
    found = packets(file)
    clean = STATUS[:3] + b"\xee\xee\xee"
    masked = RESULT[:-6] + bytes.fromhex("eeeeeee1111f")
    assert [p.data for p in found] == [
        *(clean, frame(clean)),
        *(ANSWER, frame(ANSWER)),
        *(masked, frame(masked)),
    ]
    assert [p.interface for p in found] == ["terminal-apdu", "terminal"] * 3
    assert [(p.direction, p.flags) for p in found[::2]] == [(SENT, 2), (RECEIVED, 1), (RECEIVED, 1)]
    assert [p.comment for p in found[::2]] == [
        "Status-Enquiry",
        "Positive Answer",
        "Status-Information",
    ]
    assert {p.dissector for p in found} == {"zvt"}
    start = found[0].at_ms
    assert [p.at_ms - start for p in found] == [0, 0, 13, 13, 2000, 2000]
    assert abs(start - before_ms) < 2_000
    assert file.stat().st_mode & 0o777 == 0o600


def test_over_tcp_there_are_no_blocks(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.pcapng", 0, serial=False)
    trace.sent(STATUS, 0)
    trace.close()
    assert [p.interface for p in packets(tmp_path / "t.pcapng")] == ["terminal-apdu"]


def test_a_completion_is_read_by_the_command_before_it(tmp_path: Path) -> None:
    """Its first bytes are a version, where a field that is card data could begin."""
    version = bytes.fromhex("060f0af0f0f6") + b"00:123" + b"\x00"
    trace = Trace(tmp_path / "t.pcapng", 0, serial=False)
    trace.sent(STATUS, 0)
    trace.received(version, 1)
    trace.close()
    assert packets(tmp_path / "t.pcapng")[1].data == version


def test_a_full_file_is_kept_once(tmp_path: Path) -> None:
    file, older = tmp_path / "t.pcapng", tmp_path / "t.pcapng.1"
    trace = Trace(file, 0, bytes_max=2_000)
    for now in range(100):
        trace.received(ANSWER, now)
        assert file.stat().st_size <= 2_000
        assert not older.exists() or older.stat().st_size <= 2_000
    trace.close()
    times = [p.at_ms for p in (*packets(older), *packets(file))]
    assert times == sorted(times)
    assert times[-1] - times[0] < 99, "the oldest is gone"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.pcapng", "t.pcapng.1"]


def test_a_file_that_is_there_is_kept_and_a_link_is_not_followed(tmp_path: Path) -> None:
    file, other = tmp_path / "t.pcapng", tmp_path / "other"
    file.write_text("before")
    Trace(file, 0).close()
    assert (tmp_path / "t.pcapng.1").read_text() == "before"
    other.write_text("somebody's")
    file.unlink()
    file.symlink_to(other)
    with pytest.raises(FileExistsError):
        Trace(file, 0)
    assert other.read_text() == "somebody's"


def test_a_disk_that_fails_ends_the_trace_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    trace = Trace(tmp_path / "t.pcapng", 0, tell=told.append)
    trace.sent(STATUS, 0)
    monkeypatch.setattr(trace_module.os, "write", lambda _fd, data: len(data) - 1)
    trace.received(ANSWER, 1)
    monkeypatch.undo()
    trace.received(ANSWER, 2)
    assert told == [f"{tmp_path / 't.pcapng'}: the disk is full"]
    assert len(packets(tmp_path / "t.pcapng")) == 2


# --- In the driver --------------------------------------------------------------------------------


def test_a_link_is_overheard_and_unchanged(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.pcapng", 0, serial=False)
    link, bare = TracedLink(StreamLink(), trace), StreamLink()
    for each in (link, bare):
        each.begin(STATUS, 1)
        assert (each.busy, each.pending, each.receiving) == (True, STATUS, False)
        assert each.take_output() == STATUS
        assert each.next_deadline() == 1
        assert [type(event).__name__ for event in each.on_time(1)] == ["Delivered"]
        events = each.receive(ANSWER + RESULT[:4], 5)
        assert [type(event).__name__ for event in events] == ["Received"]
        assert each.receiving
        each.send(ANSWER, 6)
        each.withdraw()
        assert each.pending is None
    trace.close()
    assert [p.data[:2].hex() for p in packets(tmp_path / "t.pcapng")] == ["0501", "8000", "8000"]


def test_a_folder_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    log: list[dict[str, Any]] = []
    env = DriverEnv(lambda: 0, lambda event, **values: log.append({"event": event, **values}))
    recorder = Recorder(tmp_path / "none" / "t.pcapng", "t1", env)
    link = StreamLink()
    assert recorder.around(link) is link
    assert recorder.around(link) is link
    (entry,) = log
    assert (entry["event"], entry["id"], entry["terminal"]) == ("zvt_trace_ended", "TRM-021", "t1")
    assert "No such file" in entry["why"]


@pytest.mark.parametrize("path", [7, ""])
def test_a_trace_that_is_no_path_is_refused(path: object) -> None:
    spec = TerminalSpec("t1", LineSpec("x"), "123456", "EUR", options={"trace": path})
    with pytest.raises(DeviceUnavailable, match="TRM-010"):
        open_terminal(spec, DriverEnv(lambda: 0, lambda *_, **__: None))


class Station:
    """The driver with a trace, against the simulated terminal."""

    def __init__(self, pt: Simulator, port: str, file: Path) -> None:
        line = LineSpec(port, 115_200, "8N2")
        options = {"trace": str(file)}
        spec = TerminalSpec("t1", line, "123456", "EUR", "feig_cvend", options)
        env = DriverEnv(lambda: time.monotonic_ns() // 1_000_000, lambda *_, **__: None)
        self.pt, self.port = pt, open_terminal(spec, env)

    async def keep(self, _evidence: Evidence) -> Verdict:
        return Verdict.STORED

    async def session(self) -> None:
        """Read, reserve, capture, reserve, release, ask, show."""
        fifty, part = Money(5000, "EUR"), Money(1295, "EUR")
        await self.port.connect()
        for end in ("capture", "release"):
            await asyncio.to_thread(self.pt.ask, "tap", card="visa")
            assert await self.port.read_card(5) is not None
            held = await self.port.authorize(fifty, "S1", self.keep)
            assert isinstance(held, Done)
            if end == "capture":
                done = await self.port.capture(held.evidence.ref, fifty, part, self.keep)
            else:
                done = await self.port.release(held.evidence.ref, fifty, self.keep)
            assert isinstance(done, Done)
        await self.port.open_holds()
        await self.port.last_result()
        await self.port.show(["Guten Tag", "Karte vorhalten"], 5)
        await self.port.close()


@pytest.fixture
def pt(tmp_path: Path) -> Iterator[Simulator]:
    """A terminal that tells everything it knows of a card."""
    options = ["--ledger", str(tmp_path / "acquirer.jsonl"), "--delay-ms", "0"]
    for switch in ("full_pan=on", "clear_tracks=on", "print_hold=on", "tlv_always=on"):
        options += ["--set", switch]
    with Simulator("terminal", tmp_path, *options) as simulator:
        yield simulator


def test_a_session_is_in_the_trace_and_no_card(pt: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "t.pcapng"
    asyncio.run(Station(pt, str(pt.link), file).session())
    found = packets(file)
    raw = file.read_bytes()
    for pan in PANS:
        assert not told_digits(pan, raw.hex()), pan
        assert not told_digits(pan, raw.decode("latin-1")), pan
    assert "51c4f2d07a9e4b6c" not in raw.hex(), "the terminal's token of the card"
    assert "08b3c880" not in raw.hex(), "the card's UID"
    assert b"\x12\x34\x56" not in raw, "the terminal's password"
    apdus = [p for p in found if p.interface == "terminal-apdu"]
    assert [p.data for p in found if p.interface == "terminal"] == [frame(p.data) for p in apdus]
    sent = [p.data[:2].hex() for p in apdus if p.direction == SENT and p.data[0] < 0x80]
    money = ["06c0", "0622", "0623", "06c0", "0622", "0625", "0623"]
    assert [command for command in sent if command in money] == money
    # Every message of the terminal is answered, and both are there.
    results = [p for p in apdus if p.data[:2] == b"\x04\x0f"]
    assert len(results) >= 6
    assert any(b"\x22\xf0\xf8" in p.data for p in results), "a card number was told"
    for at, packet in enumerate(apdus[:-1]):
        if packet.direction == RECEIVED and packet.data[0] in (0x04, 0x06):
            assert apdus[at + 1].data == ANSWER
            assert apdus[at + 1].at_ms >= packet.at_ms
    _dissected(file, found)


# --- Wireshark ------------------------------------------------------------------------------------


def _dissected(file: Path, found: list[Packet]) -> None:
    """Every packet is one of ZVT to Wireshark, without a malformed mark."""
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark: apt-get install tshark")
    fields = ["frame.protocols", "frame.interface_name", "exported_pdu.p2p_dir", "_ws.malformed"]
    words = [word for name in fields for word in ("-e", name)]
    done = subprocess.run(
        ["tshark", "-r", str(file), "-T", "fields", *words],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(found)
    for packet, (protocols, interface, direction, malformed) in zip(found, rows, strict=True):
        command = packet.data[:2].hex()
        known = command[:2] in ("80", "84") or command in KNOWN_TO_WIRESHARK
        known = known or packet.interface == "terminal"
        assert protocols == ("exported_pdu:zvt" if known else "exported_pdu:data"), (
            packet.data.hex()
        )
        assert (interface, int(direction)) == (packet.interface, packet.direction)
        assert not malformed, packet.data.hex()


def test_wireshark_reads_every_captured_message(tmp_path: Path) -> None:
    if not VECTORS.exists():
        pytest.skip(f"needs the captured vectors in {VECTORS.name}")
    file = tmp_path / "t.pcapng"
    trace = Trace(file, 0)
    count = 0
    for vector in json.loads(VECTORS.read_text())["vectors"]:
        raw = bytes.fromhex(vector["hex"])
        apdu = raw if vector["transport"] == "apdu" else _unframed(raw)
        try:
            decode(apdu)
        except Malformed:
            continue  # so they are meant to be
        told = trace.received if vector["direction"].startswith("PT") else trace.sent
        told(apdu, count)
        count += 1
    trace.close()
    assert count >= 40
    found = packets(file)
    assert len(found) == 2 * count
    _dissected(file, found)


def _unframed(block: bytes) -> bytes:
    return block[2:-4].replace(b"\x10\x10", b"\x10")
