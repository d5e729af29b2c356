"""One real session through the whole station, step by step, every part a process of its own."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from hil.broker import WAYS, Broker, BrokerError, find_broker
from hil.common.control import ControlError
from hil.demo.place import CONFIG, DIRECTORY, PROXY_PORT, ROOT, TARIFF, Place, workplace
from hil.demo.say import Voice
from hil.demo.stay import Prompt
from hil.demo.tour import INTRODUCTION, STATION, STEPS, Tour
from hil.rig import Rig, RigError

BROKERS = ROOT / ".venv-broker"
TENANT = "demo"
PASSWORD = "123456"
POWER_W = 360_000
FAILED, INTERRUPTED = 1, 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo_rig(place: Place, broker: Broker) -> Rig:
    return Rig(
        place.directory,
        place.config,
        place.ports,
        TENANT,
        broker,
        protocol="5" if broker.mqtt5 else "3.1.1",
        charger_options=("--load-w", str(POWER_W), "--pace"),
        terminal_options=("--password", PASSWORD, "--pace"),
    )


def introduce(voice: Voice, tour: bool) -> None:
    voice.title("voltill: the payment agent on the charger, at work")
    voice.line()
    voice.prose(INTRODUCTION)
    if tour:
        voice.line()
        voice.prose(f"Steps: {STEPS}")
    voice.line()


def set_up(rig: Rig, place: Place, voice: Voice, broker: Broker) -> None:
    """Every part, and who it is."""
    place.write_config()
    rig.make_secrets(PASSWORD)
    voice.says("broker", str(broker))
    rig.start_broker()
    rig.start_network()
    rig.start_backend()
    voice.says("back end", "subscribed; checks, stores and acknowledges records")
    rig.start_terminal()
    voice.says("terminal", "ZVT on a pty, serial framing, 115200 8N2")
    rig.start_charger()
    voice.says("charger", "EV-CC-AC1 and SDM630 on one Modbus RTU bus, 9600 8N1, with a car")
    rig.start_agent()
    what = ", unchanged" if place.fixed else f", a copy of {CONFIG.name} with other ports and paths"
    config = place.config.relative_to(ROOT) if place.fixed else place.config
    voice.says("agent", f"voltill run --config {config}{what}")


def verdict(voice: Voice) -> int:
    voice.line()
    if voice.failures:
        voice.title(f"{len(voice.failures)} of {voice.checks} checks broken, {voice.seconds()} s:")
        for failure in voice.failures:
            voice.line(f"    {failure}")
        return FAILED
    voice.title(f"All {voice.checks} checks held, {voice.seconds()} s.")
    return 0


def run(args: argparse.Namespace) -> int:
    voice = Voice()
    place = Place(args.directory.absolute(), args.ports)
    introduce(voice, not args.no_tour)
    broker = find_broker(BROKERS, (args.broker,) if args.broker else WAYS)
    voice.start_clock()
    status = 0
    with workplace(place, args.keep), demo_rig(place, broker) as rig:
        try:
            set_up(rig, place, voice, broker)
            if not args.no_tour:
                Tour(rig, voice, TARIFF).play()
                status = verdict(voice)
            if args.stay:
                Prompt(rig, voice, STATION).run()
        except KeyboardInterrupt:
            # Nobody waits for a session to be settled in a world that is about to be deleted.
            rig.kill_all()
            raise
    return status


def _interrupt(_: int, __: FrameType | None) -> None:
    """The first signal ends the demo; further ones must not keep it from cleaning up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    add = parser.add_argument
    add("--stay", action="store_true", help="keep everything up afterwards, with a prompt")
    add("--no-tour", action="store_true", help="with --stay: straight to the prompt")
    add("--keep", action="store_true", help="keep run/demo to look at")
    add("--broker", choices=WAYS, help="only this way to a broker")
    add(
        "--ports",
        type=int,
        default=PROXY_PORT,
        metavar="PORT",
        help=f"use PORT and the next one instead of {PROXY_PORT} and {PROXY_PORT + 1}",
    )
    add("--directory", type=Path, default=DIRECTORY, help="work there instead of in run/demo")
    args = parser.parse_args()
    if args.no_tour and not args.stay:
        parser.error("--no-tour goes with --stay")
    return args


def main() -> int:
    args = _parse()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        return run(args)
    except KeyboardInterrupt:
        print("\ninterrupted; everything is down", file=sys.stderr)
        return INTERRUPTED
    except (RigError, BrokerError, ControlError, OSError) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
