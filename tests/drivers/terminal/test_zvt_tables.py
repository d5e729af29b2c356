"""The tables of bitmaps, messages and tags."""

from drivers.terminal.zvt.messages import MESSAGES
from drivers.terminal.zvt.tables import BMPS, BY_NAME, TLV_TEXT


def test_bitmaps_and_messages_have_one_name_each() -> None:
    assert len(BY_NAME) == len(BMPS)
    assert all(len(name) == 4 and name == name.lower() for name in MESSAGES)
    for tag, (show, pack) in TLV_TEXT.items():
        assert pack(show(b"Gr\x81\xe1e") if tag != "1f17" else "Grüße", 0), tag
