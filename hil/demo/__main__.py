"""python -m hil.demo [--stay] [--broker WAY] [--keep]"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hil.broker import WAYS, Broker, BrokerError, find_broker
from hil.common.control import ControlError
from hil.demo.say import Voice
from hil.demo.stay import Prompt
from hil.demo.tour import Tour
from hil.rig import Ports, Rig, RigError

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "run" / "demo"
CONFIG = ROOT / "config" / "demo.yaml"
TARIFF = ROOT / "config" / "tariffs" / "adhoc.yaml"
BROKERS = ROOT / ".venv-broker"
# Fixed by config/demo.yaml, which the agent reads unchanged.
PORTS = Ports(broker=18831, proxy=18830)
TENANT = "demo"
PASSWORD = "123456"
POWER_W = 360_000
FAILED, INTERRUPTED = 1, 130


@contextmanager
def workplace(keep: bool) -> Iterator[Path]:
    """`run/demo`, empty, for one demo at a time; removed at the end."""
    DIRECTORY.parent.mkdir(exist_ok=True)
    lock = os.open(DIRECTORY.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RigError("another demo runs in this folder; end it first") from None
    try:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        DIRECTORY.mkdir()
        yield DIRECTORY
    finally:
        if not keep:
            shutil.rmtree(DIRECTORY, ignore_errors=True)
            if not any(DIRECTORY.parent.iterdir()):
                DIRECTORY.parent.rmdir()
        os.close(lock)


def demo_rig(directory: Path, broker: Broker) -> Rig:
    protocol = "5" if broker.mqtt5 else "3.1.1"
    return Rig(
        directory,
        CONFIG,
        PORTS,
        TENANT,
        broker,
        protocol=protocol,
        charger_options=("--load-w", str(POWER_W), "--pace"),
        terminal_options=("--password", PASSWORD, "--pace"),
    )


def run(stay: bool, keep: bool, ways: tuple[str, ...]) -> int:
    voice = Voice()
    started = time.monotonic()
    voice.title("voltill demo: one real session; every part below is a process of its own")
    broker = find_broker(BROKERS, ways)
    with workplace(keep) as directory, demo_rig(directory, broker) as rig:
        rig.make_secrets(PASSWORD)
        rig.start()
        rig.start_agent()
        voice.says("broker", str(broker))
        voice.says("terminal", "simulated ZVT terminal on a pty, serial framing, 115200 8N2")
        voice.says(
            "charger", "simulated SDM630 meter and EV-CC-AC1 on one Modbus RTU bus, 9600 8N1"
        )
        voice.says("agent", f"voltill run --config {CONFIG.relative_to(ROOT)}, unchanged")
        Tour(rig, voice, TARIFF).play()
        took_s = time.monotonic() - started
        voice.line()
        if voice.failures:
            voice.title(f"{len(voice.failures)} checks broken after {took_s:.0f} s:")
            for failure in voice.failures:
                voice.line(f"    {failure}")
        else:
            voice.title(f"Every check held. {took_s:.0f} s.")
        if stay:
            Prompt(rig, voice).run()
    return FAILED if voice.failures else 0


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="keep everything up, with a prompt")
    parser.add_argument("--keep", action="store_true", help="keep run/demo to look at")
    parser.add_argument("--broker", choices=WAYS, help="only this way to a broker")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return run(args.stay, args.keep, (args.broker,) if args.broker else WAYS)
    except KeyboardInterrupt:
        print("\ninterrupted; everything is down", file=sys.stderr)
        return INTERRUPTED
    except (RigError, BrokerError, ControlError) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
