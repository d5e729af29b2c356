"""The unit and its companions, judged by systemd's own tools."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.tree import ROOT

UNIT = ROOT / "systemd" / "voltill.service"
EXPOSURE_MAX = 1.5


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    return subprocess.run(
        [program, "--no-pager", *words], capture_output=True, text=True, check=False
    )


def exposure(unit: Path) -> float:
    done = analyze("security", "--offline=true", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


def test_exposure() -> None:
    assert exposure(UNIT) <= EXPOSURE_MAX


def test_exposure_notices_a_missing_wall(tmp_path) -> None:
    weaker = tmp_path / UNIT.name
    text = UNIT.read_text()
    for line in ("CapabilityBoundingSet=\n", "SystemCallFilter=~@privileged @resources\n"):
        assert line in text
        text = text.replace(line, "")
    weaker.write_text(text)
    assert exposure(weaker) > EXPOSURE_MAX


def test_the_unit_is_understood(tmp_path) -> None:
    """systemd reads every line; only the programs, which are not installed here, are stood in for."""
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"/usr/bin/voltill\b", "/bin/true", UNIT.read_text()))
    done = analyze("verify", "--man=no", unit)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert complaints == []


def test_verify_sees_a_bad_line(tmp_path) -> None:
    unit = tmp_path / UNIT.name
    text = re.sub(r"/usr/bin/voltill\b", "/bin/true", UNIT.read_text())
    unit.write_text(text.replace("WatchdogSec=30", "WatchdogSec=soon"))
    done = analyze("verify", "--man=no", unit)
    assert any(UNIT.name in line for line in done.stderr.splitlines())


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_what_the_promise_needs_of_the_unit() -> None:
    unit = settings()
    assert unit["Type"] == ["notify"]
    assert unit["Restart"] == ["always"]
    assert unit["RestartPreventExitStatus"] == ["78"]
    assert int(unit["WatchdogSec"][0]) <= 30
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert unit["StateDirectoryMode"] == ["0700"]
    assert "voltill withdraw" in unit["ExecStopPost"][0]
    # The boot id, part of every stamp, lies in /proc outside the processes' own folders.
    assert "ProcSubset" not in unit


def test_the_units_commands_are_real_ones() -> None:
    """Every option of ExecStart and ExecStopPost is one that the command line knows."""
    from agent.cli.main import voltill

    unit = settings()
    for line in unit["ExecStart"] + unit["ExecStopPost"]:
        words = line.split()[1:]
        command = voltill.get_command(None, words[0])
        assert command is not None, line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_the_withdrawal_needs_no_credential(tmp_path) -> None:
    """ExecStopPost sees none under systemd 252; without ports it fails for those alone."""
    shutil.copy2(ROOT / "config" / "station.yaml", tmp_path)
    shutil.copytree(ROOT / "config" / "tariffs", tmp_path / "tariffs")
    config = tmp_path / "station.yaml"
    text = config.read_text()
    assert "{credential: zvt-password}" in text
    config.write_text(text.replace("/dev/energy-bus", str(tmp_path / "no-such-port")))
    (line,) = settings()["ExecStopPost"]
    words = line.replace("/etc/voltill/station.yaml", str(config)).split()[1:]
    environ = {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli.main", *words],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "no-such-port" in done.stderr


def test_user_and_folders_are_understood(tmp_path) -> None:
    sysusers, tmpfiles = shutil.which("systemd-sysusers"), shutil.which("systemd-tmpfiles")
    if sysusers is None or tmpfiles is None:
        pytest.skip("needs systemd-sysusers: apt-get install systemd")
    (tmp_path / "etc").mkdir()
    etc = tmp_path / "etc"
    (etc / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nvoltill:x:990:\n")
    done = subprocess.run(
        [sysusers, "--dry-run", f"--root={tmp_path}", ROOT / "systemd" / "voltill.sysusers"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "voltill" in done.stdout + done.stderr
    for line in (ROOT / "systemd" / "voltill.tmpfiles").read_text().splitlines():
        if line and not line.startswith("#"):
            kind, path, mode, user, group, age = line.split()
            assert (kind, user, age) == ("d", "root", "-")
            assert path.startswith("/etc/")
            assert int(mode, 8) & 0o007 == 0
            assert group in ("root", "voltill")


def test_udev_rules_name_the_ports_of_the_example_configuration() -> None:
    rules = (ROOT / "systemd" / "70-voltill.rules").read_text()
    links = set(re.findall(r'SYMLINK\+="([\w-]+)"', rules))
    assert links == {"payment-terminal", "energy-bus"}
    for line in rules.splitlines():
        if "SYMLINK+=" in line:
            assert 'GROUP="voltill", MODE="0660"' in line
