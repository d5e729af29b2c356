"""From files and commands to evidence."""

from __future__ import annotations

import base64
import json
import shlex
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.backend.jose import key_id, load_public
from hil.common.control import ask
from hil.verify.evidence import Evidence, Movement, Record, Truth
from hil.verify.price import load_tariff

MAX_SESSIONS = 1000
COMMAND_S = 60
RECEIPT_COLUMNS = 40

# Terminals write the numeric code of a currency, everybody else its name.
ISO_4217 = {
    "978": "EUR",
    "756": "CHF",
    "826": "GBP",
    "578": "NOK",
    "752": "SEK",
    "208": "DKK",
    "985": "PLN",
    "203": "CZK",
    "348": "HUF",
    "840": "USD",
}


@dataclass(frozen=True, slots=True)
class Sources:
    """`voltill`: the command, such as `.venv/bin/voltill`; `state` and `config` are its options.
    `trust`: PEMs of the stations' public keys. `truth`: the charger's control
    socket, or a file with its `state` answer."""

    ledger: Path
    db: Path
    voltill: str
    tariffs: Sequence[Path]
    trust: Sequence[Path]
    state: Path | None = None
    config: Path | None = None
    truth: Path | None = None
    must_be_closed: bool = False
    texts: Sequence[Path] = field(default_factory=tuple)


def gather(sources: Sources) -> Evidence:
    """Raises ValueError or OSError when a source cannot be read at all."""
    ledger_text = sources.ledger.read_text()
    records, forks, refused = _database(sources.db)
    command = _Voltill(sources)
    sessions, contradictions = command.sessions()
    receipts = {
        str(s["id"]): command.receipt(str(s["id"]))
        for s in sessions
        if s.get("cost_minor") is not None
    }
    keys = [load_public(path) for path in sources.trust]
    texts = {"acquirer's ledger": ledger_text}
    texts |= {f"record {r.seq}": _decoded(r.jws) for r in records}
    texts |= {f"session {s['id']}": json.dumps(s) for s in sessions}
    texts |= {f"receipt {name}": text for name, text in receipts.items()}
    texts |= {str(path): path.read_text(errors="replace") for path in sources.texts}
    return Evidence(
        movements=movements(ledger_text),
        records=records,
        sessions=sessions,
        receipts=receipts,
        tariffs={tariff.id: tariff for tariff in map(load_tariff, sources.tariffs)},
        keys={key_id(key): key for key in keys},
        forks=forks,
        refused=refused,
        truth=_truth(sources.truth) if sources.truth is not None else None,
        texts=texts,
        contradictions=contradictions,
        must_be_closed=sources.must_be_closed,
    )


def movements(text: str) -> list[Movement]:
    """The acquirer's ledger, one JSON object a line. Raises ValueError."""
    made = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            receipt = int(row["receipt"])
            released = row.get("released_minor")
            made.append(
                Movement(
                    kind=str(row["kind"]),
                    receipt=receipt,
                    hold_receipt=int(row.get("hold_receipt") or receipt),
                    trace=int(row["trace"]),
                    turnover=int(row["turnover"]),
                    amount_minor=int(row["amount_minor"]),
                    released_minor=None if released is None else int(released),
                    currency=ISO_4217.get(str(row["currency"]), str(row["currency"])),
                    tid=str(row["tid"]),
                    reverses=str(row.get("reverses") or ""),
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"acquirer's ledger, line {number}: {error!r}") from None
    return made


class _Voltill:
    def __init__(self, sources: Sources) -> None:
        self._prefix = shlex.split(sources.voltill)
        self._state = ["--state", str(sources.state)] if sources.state else []
        self._config = ["--config", str(sources.config)] if sources.config else []

    def sessions(self) -> tuple[list[dict[str, Any]], list[str]]:
        """What `show` says of each session in the list, and where the list says otherwise."""
        listed = self._json("list", "--limit", str(MAX_SESSIONS), "--json")
        if len(listed) >= MAX_SESSIONS:
            raise ValueError(f"{MAX_SESSIONS} sessions or more; this check sees only so many")
        shown = [self._json("show", str(s["id"]), "--json") for s in listed]
        contradictions = [
            f"{short['id']}: {key}: list {short[key]!r}, show {long.get(key)!r}"
            for short, long in zip(listed, shown, strict=True)
            for key in short
            if short[key] != long.get(key)
        ]
        return shown, contradictions

    def receipt(self, session_id: str) -> str:
        width = ["--width", str(RECEIPT_COLUMNS), "--language", "en"]
        return self._run("receipt", session_id, *width, *self._config)

    def _json(self, *arguments: str) -> Any:
        return json.loads(self._run(*arguments))

    def _run(self, *arguments: str) -> str:
        command = [*self._prefix, "sessions", *arguments, *self._state]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        if done.returncode != 0:
            raise ValueError(f"{shlex.join(command)} failed: {done.stderr.strip()}")
        return done.stdout


def _database(path: Path) -> tuple[list[Record], int, list[str]]:
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT station, chain, seq, hash, jws, type FROM record ORDER BY station, chain, seq"
        ).fetchall()
        (forks,) = db.execute("SELECT count(*) FROM fork").fetchone()
        refused = db.execute("SELECT station, seq, code, text FROM refused ORDER BY id").fetchall()
    return [Record(*row) for row in rows], forks, [f"{s} {n}: {c} ({t})" for s, n, c, t in refused]


def _truth(path: Path) -> Truth:
    state = ask(path, do="state") if path.is_socket() else json.loads(path.read_text())
    return Truth(int(state["start_wh"]), int(state["energy_truth_mwh"]))


def _decoded(jws: str) -> str:
    """Header and payload as the signer wrote them; the signature is noise."""
    parts = jws.split(".")[:2]
    return " ".join(
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode(errors="replace")
        for part in parts
    )
