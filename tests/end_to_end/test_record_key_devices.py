"""The agent as a process of its own, its record key in a softhsm2 token or a swtpm: a session to the back
end, one while the device is away, over a restart without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.key_devices import PIN, TOKEN, SoftToken, SoftTpm, site_packages
from support.station_rig import (
    broker,
    charge,
    check_books,
    check_captured,
    mark,
    nobody_there,
    reach,
    station,
    status,
    tap_until,
    wait_event,
)

from agent.trust.keys import PublicKey
from agent.trust.pkcs11 import Pkcs11Key
from agent.trust.tpm import TpmKey
from hil.broker import Broker

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(180)

CARD, OTHER = "visa", "mastercard"
FILE = "{file: record-key.pem}"


class Stand:
    """`record`: its place as the configuration names it; `pull` and `plug`: the device goes and comes."""

    def __init__(
        self, record: str, public: PublicKey, pull: Callable[[], None], plug: Callable[[], None]
    ) -> None:
        self.record, self.public, self.pull, self.plug = record, public, pull, plug

    def edit(self, text: str) -> str:
        assert FILE in text
        return text.replace(FILE, self.record)


@pytest.fixture(params=["pkcs11", "tpm"])
def stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Stand]:
    folder = tmp_path / "device"
    folder.mkdir()
    if request.param == "pkcs11":
        token = SoftToken(folder, monkeypatch)
        pin = folder / "pin"
        pin.write_text(PIN)
        pin.chmod(0o600)
        key = Pkcs11Key(token.module, "record", token=TOKEN, slot=None, pin=lambda: PIN)
        at = f"{{module: {token.module}, token: {TOKEN}, key: record, pin: {{file: {pin}}}}}"
        public = key.create()
        made = Stand(
            f"{{pkcs11: {at}}}",
            public,
            lambda: token.misbehave("removed"),
            lambda: token.misbehave(""),
        )
        end = token.end
    else:
        tpm = SoftTpm(folder / "tpm")
        file = folder / "record-key.tpm"
        public = TpmKey(tpm.tcti, handle=None, file=file, pin=None).create()
        record = f'{{tpm: {{tcti: "{tpm.tcti}", file: {file}}}}}'
        made = Stand(record, public, tpm.stop, tpm.start)
        end = tpm.stop
    more = [str(path) for path in site_packages(request.param)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(more))
    yield made
    end()


def test_sessions_with_the_key_in_a_device(tmp_path: Path, broker: Broker, stand: Stand) -> None:
    later = {"without": ("backend",), "start_agent": False}
    with station(tmp_path / "rig", broker, edit=stand.edit, **later) as rig:  # type: ignore[arg-type]
        rig.station_key.write_text(stand.public.pem())  # what the back end trusts
        rig.start_backend()
        rig.start_agent()
        found = status(rig)["record_key"]
        assert found["kid"] == stand.public.kid and found["trouble"] == ""
        first = charge(rig, CARD)
        tap_until(rig, first, CARD, "stopping")
        check_captured(rig, first)
        nobody_there(rig)

        second = charge(rig, OTHER)
        at = mark(rig)
        stand.pull()
        tap_until(rig, second, OTHER, "recording")
        wait_event(rig, "record_key_lost", since=at)
        assert status(rig)["record_key"]["trouble"].startswith("KEY-02")
        rig.kill_agent()
        rig.start_agent()
        reach(rig, second, "recording")
        stand.plug()
        check_captured(rig, second)
        nobody_there(rig)
        assert status(rig)["record_key"]["trouble"] == ""
        check_books(rig)
    noted = (tmp_path / "rig").rglob("record-keys.pem")
    assert [PublicKey.load(path) for path in noted] == [stand.public]
