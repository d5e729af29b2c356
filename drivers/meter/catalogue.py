"""Model files: what a meter is asked and how its registers read. One YAML file per model.

The form is `voltill-meter-1`, described key by key in docs/meters.md. A technician's own file has the same
form: in the folder of the meter's option `models_dir`, else in /etc/voltill/meters. His folder is looked at
before the shipped files, so a file there can correct one of them. A wrong file is refused with every
mistake it has, each with file, line and reason; nothing of it is used.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from drivers.meter.catalogue_values import Marks, Values, read_identity, read_values
from drivers.meter.model import Block, Mark, Model, Part, SigningUnit, Text, Value
from drivers.meter.timing import DeviceTiming
from drivers.meter.values import WordOrder
from drivers.yaml_nodes import Entry, Problem, read_document

__all__ = [
    "OWN",
    "SHIPPED",
    "Block",
    "Mark",
    "Model",
    "ModelError",
    "Part",
    "Text",
    "Value",
    "find_model",
    "known_models",
    "load_all",
    "load_file",
    "load_model",
]

SHIPPED = Path(__file__).with_name("models")
OWN = Path("/etc/voltill/meters")  # beside the station's configuration
FORMAT = "voltill-meter-1"
# More files than any folder of models has: a wrong path such as / must not be read for minutes.
FILES_MOST = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_CONFIDENCES = ("high", "medium", "low")
_NEEDED = (
    "format", "id", "vendor", "models", "phases", "signing", "line", "timing", "word_order",
    "max_registers", "blocks", "values", "together", "confidence", "gotchas", "sources",
)  # fmt: skip
_TOP_KEYS = [*_NEEDED, "identity", "signing_unit"]
# The sequences of drivers/meter/signing.
_SIGNING_UNITS = ("em580", "wm3m4", "bsm_ws36a")
_UNKNOWN = "unknown"


class ModelError(ValueError):
    """A model is not known (MTR-008) or its file is wrong (MTR-009). `problems` has all of them."""

    def __init__(self, code: str, problems: list[Problem] | str) -> None:
        text = problems if isinstance(problems, str) else "\n".join(map(str, problems))
        super().__init__(f"{code}: {text}")
        self.code = code
        self.problems = [] if isinstance(problems, str) else problems


def known_models(models_dir: Path | None = None) -> list[str]:
    """Names of all models there are files for."""
    return sorted(_files(models_dir))


def load_model(name: str, models_dir: Path | None = None) -> Model:
    """The model called `name`, from `models_dir`, OWN, or those shipped. Raises ModelError."""
    if models_dir is not None and not models_dir.is_dir():
        raise ModelError("MTR-008", f"models_dir {models_dir} is not a folder")
    files = _files(models_dir)
    if _NAME.fullmatch(name) and name in files:
        return load_file(files[name])
    close = difflib.get_close_matches(name, files, 1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of: {', '.join(sorted(files))}"
    raise ModelError("MTR-008", f"meter model {name!r} is not known; {hint}")


def find_model(name: str, models_dir: Path | None = None) -> Model:
    """As `load_model`; here a name with a slash, or ending in .yaml, is the path of a file."""
    is_path = "/" in name or name.endswith(".yaml")
    return load_file(Path(name)) if is_path else load_model(name, models_dir)


def load_all(models_dir: Path | None = None) -> tuple[dict[str, Model], list[ModelError]]:
    """Every model there is, and what is wrong with the files that could not be read."""
    found: dict[str, Model] = {}
    wrong: list[ModelError] = []
    for name, path in sorted(_files(models_dir).items()):
        try:
            found[name] = load_file(path)
        except ModelError as error:
            wrong.append(error)
    return found, wrong


def _files(models_dir: Path | None) -> dict[str, Path]:
    """File by name; the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in (models_dir, OWN, SHIPPED):
        if folder is not None and folder.is_dir():
            for path in sorted(folder.glob("*.yaml"))[:FILES_MOST]:
                found.setdefault(path.stem, path)
    return found


def load_file(path: Path) -> Model:
    """The model in this file. Raises ModelError with every problem, each with file, line and reason."""
    problems: list[Problem] = []
    top = read_document(path, problems)
    model = None if top is None else _model(top, path)
    if model is None or problems:
        raise ModelError("MTR-009", sorted(problems, key=lambda problem: problem.line))
    return model


# --- Sections. Each returns None after it has noted a problem. --------------------------------------


def _model(top: Entry, path: Path) -> Model | None:
    top.only(_TOP_KEYS)
    top.choice("format", (FORMAT,))
    name = top.text("id")
    if name is not None and (name != path.stem or not _NAME.fullmatch(name)):
        top.problem("id", f"{name!r}: expected the file's name, {path.stem!r} (a-z, 0-9, _)")
    vendor, models = top.text("vendor"), top.texts("models")
    phases = top.integer("phases", 1, 3)
    signing = top.choice("signing", ("none", "ocmf"))
    signing_unit = _signing_unit(top, signing)
    line, timing = _line(top), _timing(top)
    order = top.choice("word_order", tuple(WordOrder))
    most = top.integer("max_registers", 1, 125)
    blocks = _blocks(top, most or 125)
    marks = Marks(blocks, WordOrder(order) if order else WordOrder.BIG)
    values = read_values(top, marks)
    confidence = _confidence(top, values)
    identity = read_identity(top, marks, confidence)
    _together(top)
    _unused(top, values, identity, blocks)
    gotchas = top.texts("gotchas", may_be_empty=True)
    sources = top.texts("sources")
    if None in (name, vendor, models, phases, signing, line, timing, order, gotchas, sources):
        return None
    if not {"energy_import", "power"} <= values.numbers.keys():
        return None
    assert name and vendor and models and phases and signing and line and timing and order
    assert gotchas is not None and sources is not None
    return Model(
        name, vendor, models, phases, *line, timing, WordOrder(order), signing, blocks, values.numbers,
        values.texts, identity, confidence, gotchas, sources, path, signing_unit,
    )  # fmt: skip


def _line(top: Entry) -> tuple[int | None, str | None, int | None] | None:
    """Factory settings; None inside for what is not known."""
    line = top.mapping("line")
    if line is None:
        return None
    line.only(["baud", "framing", "unit", "other_baud"])
    open_ = [key for key in ("baud", "framing", "unit") if line.word(key) == _UNKNOWN]
    baud = None if "baud" in open_ else line.integer("baud", 300, 1_000_000)
    unit = None if "unit" in open_ else line.integer("unit", 1, 247)
    framing = None if "framing" in open_ else line.choice("framing", ("8N1", "8E1", "8O1", "8N2"))
    for rate in line.texts("other_baud") or () if "other_baud" in line.names else ():
        if not rate.isdecimal() or not 300 <= int(rate) <= 1_000_000:
            line.problem("other_baud", f"{rate!r}: expected whole numbers from 300 to 1000000")
    return baud, framing, unit


def _timing(top: Entry) -> DeviceTiming | None:
    timing = top.mapping("timing")
    if timing is None:
        return None
    keys = ["turnaround_ms", "longest_reply_ms", "min_gap_ms"]
    timing.only(keys)
    numbers = [timing.integer(key, 0, 60_000) for key in keys]
    if any(number is None for number in numbers):
        return None
    try:
        return DeviceTiming(*(number for number in numbers if number is not None))
    except ValueError as error:
        top.problem("timing", str(error))
        return None


def _signing_unit(top: Entry, signing: str | None) -> SigningUnit | None:
    """None where the file has none: such a meter is only read."""
    if "signing_unit" not in top.names:
        return None
    if signing == "none":
        top.problem("signing_unit", "the meter does not sign (signing: none)")
    unit = top.mapping("signing_unit")
    if unit is None:
        return None
    unit.only(["protocol", "reply_ms"])
    protocol = unit.choice("protocol", _SIGNING_UNITS)
    late = unit.integer("reply_ms", 1, 60_000) if "reply_ms" in unit.names else None
    return None if protocol is None else SigningUnit(protocol, late)


def _blocks(top: Entry, most: int) -> dict[str, Block]:
    found: dict[str, Block] = {}
    entries = top.mapping("blocks")
    for name in entries.names if entries is not None else ():
        block = entries.mapping(name) if entries is not None else None
        if block is None:
            continue
        block.only(["function", "address", "count"])
        function, address = block.integer("function", 3, 4), block.integer("address", 0, 0xFFFF)
        count = block.integer("count", 1, most)
        if function is not None and address is not None and count is not None:
            if address + count > 0x10000:
                block.problem("count", f"{address} + {count} is beyond register 65535")
            found[name] = Block(function, address, count)
    if entries is not None and "billing" not in entries.names:
        top.problem("blocks", "no block called billing")
    return found


def _unused(
    top: Entry, values: Values, identity: tuple[Mark, ...], blocks: Mapping[str, Block]
) -> None:
    """A block nobody reads is a slip of the pen."""
    used = {value.block for value in values.numbers.values()}
    used |= {text.block for text in values.texts.values()}
    used |= {mark.text.block for mark in identity}
    entries = top.mapping("blocks")
    for name in blocks:
        # With mistakes elsewhere it may only seem unused.
        if entries is not None and name not in used and not values.wrong:
            entries.problem(name, "no value is in this block")


def _together(top: Entry) -> None:
    values = top.mapping("values")
    for group in top.groups("together"):
        blocks = set()
        for name in group:
            value = values.mapping(name) if values is not None and name in values.names else None
            if value is None:
                top.problem("together", f"{name!r} is none of the values")
            else:
                blocks.add(value.text("block"))
        if len(blocks) > 1:
            names = ", ".join(group)
            top.problem("together", f"{names}: must be in one block, else they can be torn")


def _confidence(top: Entry, values: Values) -> dict[str, str]:
    """How well each value, each mark of identity, the line and the timing are known."""
    entries = top.mapping("confidence")
    if entries is None:
        return {}
    marks = top.mapping("identity") if "identity" in top.names else None
    wanted = ["line", "timing", *values.names, *(marks.names if marks is not None else ())]
    entries.only(wanted)
    found = {name: entries.choice(name, _CONFIDENCES) for name in wanted}
    return {name: level for name, level in found.items() if level is not None}
