"""`voltill run` with a wrong or missing configuration: exit status 78, every fault with its place, and
nothing started."""

from __future__ import annotations

import os
import subprocess
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.station_rig import CONFIG, TARIFF

from hil.rig import voltill_command

BAD_CONFIG = 78
RUN_S = 20.0


class Bench:
    """Where a station would run: a serial port that notices whether anything was sent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config, self.state = directory / "station.yaml", directory / "state"
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.port = os.ttyname(self.slave)
        os.set_blocking(self.master, False)
        (directory / "zvt-password").write_text("123456")
        (directory / "zvt-password").chmod(0o600)
        key = directory / "record-key.pem"
        subprocess.run([*voltill_command(), "keys", "new", str(key)], check=True)
        (directory / "backend.pem").write_text(
            "\n".join(
                subprocess.run(
                    [*voltill_command(), "keys", "show", str(key)],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.splitlines()
            )
        )

    def text(self, tariff: Path = TARIFF) -> str:
        """A configuration without fault."""
        filled = CONFIG.format(
            proxy=1883,
            scheme="mqtt",
            tariff=tariff,
            connection_timeout_s=60,
            on_sigterm="end",
            protocol="5",
        )
        return filled.replace("port: terminal", f"port: {self.port}")

    def run(self, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        where = ("--config", str(config or self.config), "--state", str(self.state))
        return subprocess.run(
            [*voltill_command(), "run", *where],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )

    def check_nothing_started(self) -> None:
        assert not self.state.exists(), "a state directory was made"
        made = {path.name for path in self.directory.iterdir()}
        assert made <= {"station.yaml", "zvt-password", "record-key.pem", "backend.pem", "t.yaml"}
        with pytest.raises(BlockingIOError):  # not a byte for the terminal
            os.read(self.master, 1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    os.close(made.master)
    os.close(made.slave)


def place(text: str, words: str) -> str:
    """LINE:COLUMN of `words`."""
    for number, line in enumerate(text.splitlines(), 1):
        if words in line:
            return f"{number}:{line.index(words) + 1}"
    raise AssertionError(words)


def test_every_fault_with_its_place_and_nothing_started(bench: Bench) -> None:
    text = (
        bench.text()
        .replace("  tenant: abc", "  tenent: abc")
        .replace("baud: 115200", "baud: 115201")
        .replace('amount: "50.00"', "amount: 50.00")
        .replace("serves: [DE*ABC*E1]", "serves: [DE*ABC*E9]")
    )
    bench.config.write_text(text)
    done = bench.run()
    assert done.returncode == BAD_CONFIG, done
    report = done.stderr
    for words in ("tenent", "115201", "50.00", "DE*ABC*E9"):
        assert f"station.yaml:{place(text, words)}" in report, (words, report)
        line = next(line for line in text.splitlines() if words in line)
        assert line.strip() in report, "the line itself is shown"
    assert 'did you mean "tenant"' in report
    assert 'did you mean "DE*ABC*E1"' in report
    assert "Traceback" not in report
    bench.check_nothing_started()


def test_faults_of_the_tariff_stand_in_the_tariff(bench: Bench) -> None:
    tariff = bench.directory / "t.yaml"
    good = TARIFF.read_text()
    wrong = good.replace("price_kwh", "price_kw", 1)
    assert wrong != good
    tariff.write_text(wrong)
    bench.config.write_text(bench.text(tariff))
    done = bench.run()
    assert done.returncode == BAD_CONFIG, done
    assert f"t.yaml:{place(wrong, 'price_kw:')}" in done.stderr
    assert 'did you mean "price_kwh"' in done.stderr
    bench.check_nothing_started()


def test_no_configuration_at_all(bench: Bench) -> None:
    done = bench.run()
    assert done.returncode == BAD_CONFIG, done
    assert str(bench.config) in done.stderr
    assert "Traceback" not in done.stderr
    bench.check_nothing_started()


@pytest.mark.parametrize("missing", ["zvt-password", "record-key.pem", "backend.pem"])
def test_a_file_that_the_configuration_names_is_missing(bench: Bench, missing: str) -> None:
    text = bench.text()
    bench.config.write_text(text)
    (bench.directory / missing).unlink()
    done = bench.run()
    assert done.returncode == BAD_CONFIG, done
    assert f"station.yaml:{place(text, missing)}" in done.stderr
    bench.check_nothing_started()


def test_the_same_file_without_faults_is_accepted(bench: Bench) -> None:
    """Otherwise the tests above would prove nothing."""
    bench.config.write_text(bench.text())
    checked = subprocess.run(
        [*voltill_command(), "check", "--config", str(bench.config)],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert checked.returncode == 0, checked
