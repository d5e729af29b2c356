"""./dev as a user meets it: what it builds, what an interruption leaves, what a second start costs."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tree import ROOT

SECOND_START_MAX_S = 0.3
LOCK_WAIT_LINE = "another ./dev is building"

sys.path.insert(0, str(ROOT / "packaging"))
from dev import environment, index, system  # noqa: E402
from dev.cli import COMMANDS  # noqa: E402

pytestmark = pytest.mark.timeout(300)  # a whole environment is built, on a slow index


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what ./dev needs with a short package list: quick to build, apart from the real one."""
    copy = tmp_path_factory.mktemp("tree") / "voltill"
    copy.mkdir()
    for name in ("dev", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy / name)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("packaging", "agent", "drivers", "hil"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    requirements = copy / "packaging" / "requirements"
    entries = (requirements / "test.lock").read_text().split("\n")
    (requirements / "test.lock").write_text("\n".join(_only(entries, ("setuptools", "click"))))
    yield copy


def _only(lines: list[str], names: tuple[str, ...]) -> list[str]:
    kept, keeping = [], False
    for line in lines:
        if line and not line.startswith((" ", "#")):
            keeping = line.split("==")[0] in names
        if keeping:
            kept.append(line)
    return kept


def dev(tree: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if name != "VOLTILL_VENV"}
    return subprocess.Popen(
        [sys.executable, str(tree / "dev"), *words],
        env={**environ, **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate()
    if process.returncode != 0 and "could not be installed" in out:
        pytest.skip("needs the package index to build an environment")
    assert process.returncode == 0, out
    return out


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} was never printed:\n{seen}")


def kill(process: subprocess.Popen[str]) -> None:
    """Only ./dev itself dies, as by the kernel's memory killer; its installers may go on for a while."""
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    if process.stdout is not None:
        process.stdout.close()


def marker(tree: Path) -> Path:
    return tree / ".venv" / environment.MARKER


def interrupt(tree: Path, at: str) -> None:
    shutil.rmtree(tree / ".venv", ignore_errors=True)
    process = dev(tree, "setup")
    read_until(process, at)
    kill(process)
    assert not marker(tree).exists()


def test_a_killed_build_is_rebuilt(tree: Path) -> None:
    interrupt(tree, "environment: interpreter")
    out = finished(dev(tree, "setup"))
    assert "building /" in out
    assert marker(tree).exists()
    assert list(tree.glob(".venv-old-*")) == []
    assert _works(tree)


def test_two_at_once_rebuild_once_what_was_killed_among_the_packages(tree: Path) -> None:
    interrupt(tree, "environment: packages")
    first = dev(tree, "setup")
    read_until(first, "environment: interpreter")
    second = dev(tree, "setup")
    read_until(second, LOCK_WAIT_LINE)
    assert "==> environment: packages" in finished(first)
    assert "environment: interpreter" not in finished(second)
    assert _works(tree)


def _works(tree: Path) -> bool:
    probe = "import click, agent, drivers, hil; print(agent.__file__)"
    done = subprocess.run(
        [tree / ".venv" / "bin" / "python", "-c", probe],
        cwd="/",
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip() == str(tree / "agent" / "__init__.py")


def test_a_second_start_is_quick_and_runs_nothing(tree: Path) -> None:
    finished(dev(tree, "setup"))
    before = marker(tree).stat().st_mtime_ns

    def best_of(words: list[str]) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - begin)
        return min(times)

    bare = best_of([sys.executable, "-c", "pass"])
    ours = best_of([sys.executable, str(tree / "dev"), "setup"])
    print(f"second start: {ours:.3f} s, of which Python itself {bare:.3f} s")
    assert ours - bare < SECOND_START_MAX_S
    assert marker(tree).stat().st_mtime_ns == before


def test_entry_points_and_script_are_installed_and_follow_pyproject(tree: Path) -> None:
    finished(dev(tree, "setup"))
    pyproject = tree / "pyproject.toml"
    original = pyproject.read_text()
    wanted = tomllib.loads(original)["project"]["entry-points"]["voltill.drivers"]
    assert _entry_points(tree) == wanted
    assert (tree / ".venv" / "bin" / "voltill").exists()
    try:
        pyproject.write_text(original.replace('"bus.rtu" =', '"bus.other" ='))
        assert "installed again" in finished(dev(tree, "setup"))
        assert "bus.other" in _entry_points(tree)
    finally:
        pyproject.write_text(original)
        finished(dev(tree, "setup"))
    assert _entry_points(tree) == wanted


def _entry_points(tree: Path) -> dict[str, str]:
    probe = (
        "import json; from importlib.metadata import entry_points as e;"
        "print(json.dumps({p.name: p.value for p in e(group='voltill.drivers')}))"
    )
    python = tree / ".venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", probe], cwd="/", capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_a_changed_lock_and_a_moved_tree_are_stale(tree: Path) -> None:
    finished(dev(tree, "setup"))
    spec = environment.Spec(
        "x", tree / ".venv", tree / "packaging" / "requirements" / "test.lock", False
    )
    original = spec.lock.read_text()
    key = environment.key(spec)
    assert environment.read_marker(spec)["key"] == key
    try:
        spec.lock.write_text(original + "# changed\n")
        assert environment.key(spec) != key
    finally:
        spec.lock.write_text(original)
    moved = environment.Spec("x", tree / ".venv-moved", spec.lock, False)
    assert environment.key(moved) != key


def test_a_hand_made_environment_is_stale(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text("")
    spec = environment.Spec("x", tmp_path / ".venv", lock, project=False)
    spec.python.parent.mkdir(parents=True)
    spec.python.symlink_to(sys.executable)
    assert not environment.is_complete(spec)
    environment.write_marker(spec, "pip")
    assert environment.is_complete(spec)
    spec.python.unlink()
    assert not environment.is_complete(spec)
    spec.marker.write_text('{"key"')
    assert environment.read_marker(spec) == {}


def test_unknown_commands_are_refused_with_the_list(tree: Path) -> None:
    process = dev(tree, "deploy")
    out, _ = process.communicate()
    assert process.returncode == 64
    for name in COMMANDS:
        assert f"  {name}" in out


def test_a_folder_that_cannot_be_written_is_said(tree: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        target = Path("/proc/voltill/.venv")  # root may write anywhere but there
    else:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        target = locked / ".venv"
    process = dev(tree, "setup", VOLTILL_VENV=str(target))
    out, _ = process.communicate()
    assert process.returncode == 2
    assert out.startswith("dev: cannot")
    assert "Traceback" not in out


def test_an_old_python_gets_the_apt_line() -> None:
    """The opening part of ./dev must be readable for it, and end in one clear message."""
    source = (ROOT / "dev").read_text()
    ast.parse(source, feature_version=(3, 7))
    script = source.replace("FLOOR = (3, 11)", "FLOOR = (9, 9)").replace(
        'NAMES = ("python3.11", "python3.12", "python3.13", "python3.14")', 'NAMES = ("python0",)'
    )
    words = [sys.executable, "-c", script.replace("__file__", "'dev'")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs 9.9 or newer" in done.stderr
    assert "apt-get install -y python3 python3-venv" in done.stderr


def test_pip_settings_are_said_in_uvs_words() -> None:
    listing = "\n".join(
        [
            "global.index-url='https://one.example/simple'",
            "global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'",
            "install.index-url='https://two.example/simple'",
            ":env:.find-links='/wheels /more'",
            ":env:.disable-pip-version-check='1'",
            "global.cert='/etc/ca.pem'",
            "global.trusted-host='a.example'",
            "freeze.index-url='https://never.example'",
            "not a setting",
            "global.timeout=broken",
        ]
    )
    assert index.translate(index.parse(listing)) == {
        "UV_DEFAULT_INDEX": "https://two.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INSECURE_HOST": "a.example",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }


def test_a_users_own_uv_settings_win(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://pip.example/simple\nno-index = true\n")
    environ = {"PATH": os.defpath, "PIP_CONFIG_FILE": str(config), "HOME": str(tmp_path)}
    found = index.uv_settings(Path(sys.executable), environ)
    assert found["UV_DEFAULT_INDEX"] == "https://pip.example/simple"
    assert found["UV_NO_INDEX"] == "1"
    mine = {**environ, "UV_DEFAULT_INDEX": "https://mine.example/simple"}
    assert "UV_DEFAULT_INDEX" not in index.uv_settings(Path(sys.executable), mine)


def test_system_needs_are_seen_by_program_or_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(system, "SBIN", ())
    program, header = tmp_path / "socat", tmp_path / "modbus.h"
    needs = (system.Need("socat", "socat", ""), system.Need("libmodbus-dev", str(header), ""))
    assert not any(need.present() for need in needs)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    header.write_text("")
    assert all(need.present() for need in needs)
