"""Which model a meter claims to be: its identity registers against the whole catalogue."""

from __future__ import annotations

from pathlib import Path

from drivers.meter.catalogue import load_all
from drivers.meter.model import Mark, Model


def claim(model: Model, mark: Mark, seen: str, models_dir: Path | None) -> str:
    """In words: what the meter that told `seen` at `mark` of `model` claims to be."""
    told = f"the meter tells {mark.name} {seen!r}"
    names = named(model, mark, seen, models_dir)
    if names:
        return f"{told}: it claims to be {' or '.join(names)}"
    expected = ", ".join(mark.expected)
    return f"{told}, which is no model known here ({mark.name} of this model: {expected})"


def named(model: Model, mark: Mark, seen: str, models_dir: Path | None) -> list[str]:
    """Models of the catalogue that tell `seen` in the same registers, else what the model's own file
    calls it."""
    found = []
    for other in load_all(models_dir)[0].values():
        marks = [m for m in other.identity if _same_place(model, mark, other, m)]
        if any(seen in m.expected for m in marks):
            found.append(other.id)
    if not found and seen in mark.others:
        found.append(mark.others[seen])
    return found


def _same_place(model: Model, mark: Mark, other: Model, its: Mark) -> bool:
    one, two = model.blocks[mark.text.block], other.blocks[its.text.block]
    return (
        one.function == two.function
        and one.address + mark.text.at == two.address + its.text.at
        and mark.text.type == its.text.type
        and mark.text.registers == its.text.registers
    )
