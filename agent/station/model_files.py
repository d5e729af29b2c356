"""What is wrong with a technician's own meter model files, for `voltill check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.settings.codes import CFG
from agent.settings.document import Document, Steps, dotted, read
from agent.settings.problems import Place, Problem, SettingsRefused, mask
from agent.station.drivers import installed, load

NOT_KNOWN, WRONG_FILE = "MTR-008", "MTR-009"
_CATALOGUE = "meter_catalogue"


def check_model_files(config: Path) -> list[Problem]:
    """Every mistake in the folder that `voltill meter models` reads, used or not, and in the folders that
    the configuration names as `models_dir`; and models that these lack."""
    if f"tool.{_CATALOGUE}" not in installed():
        return []
    try:
        doc = read(config, CFG, "configuration file")
    except SettingsRefused:
        doc = Document(str(config), CFG, [])  # said already; the folder is looked at all the same
    found = _wrong(load("tool", _CATALOGUE)())
    evses = doc.value(("evses",))
    for i in range(len(evses)) if isinstance(evses, list) else ():
        found += _of_meter(doc, ("evses", i, "meter"))
    return list(dict.fromkeys(found))  # two meters may have one folder


def _of_meter(doc: Document, here: Steps) -> list[Problem]:
    steps = (*here, "options", "models_dir")
    folder, model = doc.value(steps), doc.value((*here, "model"))
    if not isinstance(folder, str) or not isinstance(model, str):
        return []
    name = str.__str__(folder)
    if not Path(name).is_absolute() or not Path(name).is_dir():
        seen = "is no folder" if Path(name).is_absolute() else "is no absolute path"
        expected = "expected the whole path of a folder with model files, beginning with /"
        place = doc.value_at(steps)
        return [Problem(NOT_KNOWN, place, dotted(steps), f'"{name}" {seen}', expected)]
    told = load("tool", _CATALOGUE)(name)
    found = _wrong(told)
    names = [one["model"] for one in told["models"]] + [Path(p.place.file).stem for p in found]
    if str.__str__(model) not in names:
        at = (*here, "model")
        seen = f'no file has the meter model "{model}"'
        expected = f"expected {name}/{model}.yaml, or one of {', '.join(sorted(names))}"
        found.append(Problem(NOT_KNOWN, doc.value_at(at), dotted(at), seen, expected))
    return found


def _wrong(told: dict[str, Any]) -> list[Problem]:
    expected = "its form is described in docs/meters.md; nothing of a wrong file is used"
    return [
        Problem(WRONG_FILE, _place(one["file"], one["line"]), "", one["why"], expected)
        for one in told["wrong"]
    ]


def _place(file: str, line: int) -> Place:
    """With the line, whatever stands there; no such line for a file that cannot be read."""
    try:
        lines = Path(file).read_text("utf-8", "replace").splitlines()
        text = mask(lines[line - 1])
    except (OSError, IndexError):
        return Place(file, line, 1)
    indent = len(text) - len(text.lstrip())
    return Place(file, line, indent + 1, max(1, len(text.strip())), text)
