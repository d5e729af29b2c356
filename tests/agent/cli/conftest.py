"""The command line as a person calls it, on a ledger with one paid, one declined and one open session."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.past_station import Answer, Past
from support.station_world import CARD, OTHER_CARD, charge, world

from agent.cli.main import main
from agent.session import S


@pytest.fixture
def voltill(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Call `voltill` in this process: exit code, stdout, stderr."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)

    def call(*args: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["voltill", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return Answer(code, out, err)

    return call


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Past]:
    with world(tmp_path, monkeypatch) as w:
        w.start()
        charge(w, seconds=600)
        w.terminal.tap(CARD)
        paid = w.until_state(S.CLOSED).id
        w.plant.unplug()
        w.run(10)
        w.terminal.script["authorize"].append("declined")
        w.terminal.tap(OTHER_CARD)
        w.until(lambda: len(w.sessions()) == 2 and w.session().state is S.CLOSED)
        declined = w.session().id
        w.run(20)
        w.terminal.script["capture"].append("declined")
        charge(w, OTHER_CARD)
        w.terminal.tap(OTHER_CARD)
        left = w.until_state(S.UNRESOLVED).id
        w.stop()
        yield Past(w, paid, declined, left)
