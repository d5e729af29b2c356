"""The password of the terminal, and the vendors' ways to say that it is wrong."""

from __future__ import annotations

from hil.terminal.dialogue import ABORT, Talk

PASSWORD_BYTES = 3


async def refuse_password(talk: Talk, data: bytes) -> bool:
    """True when the password at the start of `data` is wrong; that has been told then."""
    desk = talk.desk
    switches = desk.switches
    digits = switches.password_digits
    if data[:PASSWORD_BYTES].hex()[:digits] == desk.password[:digits]:
        return False
    if switches.wrong_password == "1e":
        await talk.negative(ABORT & 0xFF, bytes([switches.wrong_password_code]))
    elif switches.wrong_password == "abort":
        await talk.positive()
        await talk.abort(switches.wrong_password_code)
    else:
        await talk.negative(switches.wrong_password_code)
    return True
