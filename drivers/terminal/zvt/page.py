"""The profiles as a page for technicians: `python -m drivers.terminal.zvt.page > docs/terminals.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from drivers.terminal.zvt.codes import CODES, HOST_CODES, STATUS, Fix, Refusal, refusal, state
from drivers.terminal.zvt.profile import FORMAT, ROOT, Family, shipped
from drivers.terminal.zvt.profile_schema import SETTINGS
from drivers.terminal.zvt.text import FALLBACK

COMMAND = "python -m drivers.terminal.zvt.page > docs/terminals.md"
ASSUMED = "assumed: "

INTRODUCTION = f"""\
# Card terminals over ZVT

<!-- Made by `{COMMAND}`; a test keeps it equal to the files. -->

ZVT is one protocol (PA00P015 and PA00P016 of the association of terminal makers) that every maker and every
acquirer reads a little differently. What differs stands in a **profile**, one YAML file for each family. The
code knows no makes.
"""
PICK = """\
## Pick a profile

1. If your acquirer has a profile here, take it, whoever made the terminal: its paper outranks the maker's.
2. Else take the maker's.
3. Else take `generic`. It does what the documents say and, where they leave a choice, what can do the least
   harm.

```yaml
terminals:
  - {id: t1, protocol: zvt, profile: feig_cvend, port: /dev/payment-terminal, baud: 115200, framing: 8N2,
     password: {credential: zvt-password}, currency: EUR, serves: [DE*ABC*E1],
     options: {reference_tag: "AC"}}
```

`options` replace single settings of the profile, with the names and values of the tables below; a list is one
text with blanks between. Speed and framing of the line are those of the configuration: the profile's are what
such a terminal has from the factory.
"""
ASSUMPTIONS = """\
## What "assumed" means

Nobody has told us, and no capture shows it: the value is a guess that makes a likely terminal. Settings
with a source were read in a document or seen on a wire. Before money flows, look at the assumed ones of
your profile and ask the acquirer, first of all about:

- `capture_by`: whether the contract is for pre-authorisations (06 23) or reservations (06 24). With the wrong
  one captures are refused, and the amounts wait as receivables.
- `eod_open_holds`: what an end of day does to a hold that is still open. The worst that was met is to
  charge it in full, so that is assumed.
- `extension`: whether a hold can be raised. Without a source it cannot.

Found out more? Write it into a file of your own with `seen: ...` or `manual: ...`, and send it to us.
"""
OWN = f"""\
## A family of your own

A new family is a new file; no code is touched. Save it anywhere the service may read, in the form below, and
name it as the option `profile`, which outranks the key `profile`:

```yaml
options: {{profile: /etc/voltill/terminals/acme.yaml}}
```

```yaml
# /etc/voltill/terminals/acme.yaml
format: {FORMAT}
title: Acme till
base: feig_cvend
settings:
  capture_by: {{value: book_total, source: "seen: Acme 3, refuses 06 23 with 83"}}
  baud: {{value: 115200, source: "manual: Acme till, chapter 4"}}
  unsupported: {{value: "0693 0850", source: "assumed: as other tills of this maker"}}
```

`base` is one of the profiles above; only what differs is written. Every setting says where it is known from:
a section of our notes (`digest 5.6`), the protocol documents (`PA00P015 06 23`), `manual: ...`, `seen: ...`
or `assumed: ...` with a short reason. The file is read strictly: at most 64 KiB, no key twice, no anchors,
no unknown names, `NO` and `12:30` in quotes. What is wrong is told with its line (TRM-010).
"""
# What "digest N" refers to.
DIGEST = {
    "1": "serial transport: line, blocks, CRC, times, collisions (PA00P016; public captures)",
    "2": "TCP transport (PA00P016; field reports)",
    "3": "form of a message (PA00P016)",
    "4": "dialogues and their times (PA00P016; captures of a Feig cVEND)",
    "5": "commands of the charger (PA00P015 13.08; captures; card complete's paper, version 22 of 2020)",
    "6": "messages of the terminal (PA00P015; card complete's paper)",
    "7": "bitmaps (PA00P015)",
    "8": "tags (PA00P015)",
    "9": "commit point and recovery (PA00P015; field reports)",
    "10": "codes (PA00P015; card complete's paper; refusals met at a German host)",
    "11": "Feig cVEND (captures and code of EVerest/zvt, MIT or Apache-2.0)",
    "12": "how EVerest uses it (EVerest, Apache-2.0)",
    "13": "other makers (card complete's paper; issues of Portalum/Portalum.Zvt, MIT; ecrterm's users)",
    "16": "what stays open",
}


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def shown(value: object) -> str:
    """A value as it is written in a file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    return f"`{value}`" if value != "" else '`""`'


def families(found: Sequence[Family]) -> str:
    rows = []
    for family in found:
        assumed = [s for s in family.settings.values() if s.source.startswith(ASSUMED)]
        what = "all settings" if family.base is None else f"{len(family.settings)} differ"
        rows.append([f"`{family.name}`", family.title, f"{what}, {len(assumed)} assumed"])
    return grid(["profile", "terminals", "what it says"], rows)


def table(found: Sequence[Family]) -> str:
    """Families and settings: a cell is empty where generic's value holds."""

    def cell(family: Family, name: str) -> str:
        sourced = family.settings.get(name)
        if sourced is None:
            return ""
        mark = "\\*" if sourced.source.startswith(ASSUMED) else ""
        return shown(sourced.value) + mark

    head = ["setting", *(family.name for family in found)]
    rows = [[f"`{name}`", *(cell(family, name) for family in found)] for name in SETTINGS]
    return grid(head, rows)


def meanings(found: Sequence[Family]) -> list[str]:
    generic = next(family for family in found if family.name == ROOT)
    parts = []
    for group in dict.fromkeys(setting.group for setting in SETTINGS.values()):
        rows = [
            [f"`{s.name}`", s.text, s.expected, generic.settings[s.name].source]
            for s in SETTINGS.values()
            if s.group == group
        ]
        parts += [f"### {group}\n"]
        parts += [grid(["setting", "meaning", "values", "generic's is from"], rows), ""]
    return parts


def differences(found: Sequence[Family]) -> str:
    return grid(
        ["profile", "setting", "value", "source"],
        [
            [f"`{family.name}`", f"`{name}`", shown(sourced.value), sourced.source]
            for family in found
            if family.name != ROOT
            for name, sourced in family.settings.items()
        ],
    )


def fallback() -> str:
    """One row for all signs that are written the same."""
    signs: dict[str, list[str]] = {}
    for sign, written in FALLBACK.items():
        signs.setdefault(written, []).append(sign)
    rows = [[" ".join(found), f"`{w}`".replace("|", "\\|")] for w, found in signs.items()]
    return grid(["sign", "written"], rows)


def codes() -> list[str]:
    errors = [refusal(code) for code in sorted({*CODES, *HOST_CODES})]
    states = [state(code) for code in sorted(STATUS)]
    head = ["id", "meaning", "who", "reason", "words"]

    def rows(found: Iterable[Refusal | None]) -> list[list[str]]:
        return [
            [f"`{r.id}`", r.text, str(r.fix), str(r.reason), f"`{r.key}`"]
            for r in found
            if r is not None
        ]

    return [
        grid(head, rows(errors)),
        "",
        "Only as a status (05 01):\n",
        grid(head, rows(states)),
    ]


WHO = {
    Fix.DRIVER: "the driver at the charger: another card, the PIN, taking the card out",
    Fix.LATER: "nobody: it passes",
    Fix.OPERATOR: "the operator: a setting or a contract; other payments go on",
    Fix.BLOCKED: "no payment can succeed before somebody has acted, or the station itself (end of day, "
    "initialisation, diagnosis)",
}


def document() -> str:
    found = shipped()
    parts = [INTRODUCTION, PICK, families(found), ""]
    parts += ["## Families and settings\n"]
    parts += ["Empty: as `generic`. `*`: assumed.\n", table(found), ""]
    parts += [ASSUMPTIONS, OWN]
    parts += ["## What each setting means\n", *meanings(found)]
    parts += ["## Where each difference is known from\n", differences(found), ""]
    parts += ['"Digest" are the project\'s notes on the protocol. Their sections:\n']
    parts += [grid(["section", "what, and from where"], DIGEST.items()), ""]
    parts += ["## Texts on the terminal\n"]
    parts += [
        "A text is written in the terminal's `charset`. What that set lacks is written by this table, else\n"
        "by its base letter (`č` becomes `c`), else left out; never as `?`. Umlauts are in every set.\n",
        fallback(),
        "",
    ]
    parts += ["## Codes\n"]
    parts += [
        "The id is `zvt.` and the code in hex, as in 06 1E, 84 xx or the result of a 04 0F. Codes from 01\n"
        "to 63 that are not listed come from a host and read as declined; others as an unknown error.\n"
        "`words` is the key of what the driver reads.\n",
        grid(["who", "means"], [[str(fix), said] for fix, said in WHO.items()]),
        "",
        *codes(),
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
