"""`python -m hil backend`: the command line of the simulated back end."""

from __future__ import annotations

import argparse
from pathlib import Path

from hil.backend.database import Database
from hil.backend.intake import Intake
from hil.backend.jose import load_or_make_private, public_pem
from hil.backend.keyring import Keyring
from hil.backend.service import Backend, Link
from hil.common.proc import run_service


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m hil backend",
        description="Receives records over MQTT, checks, stores and acknowledges them.",
    )
    parser.add_argument("--url", required=True, help="mqtt://host:port or mqtts://host:port")
    parser.add_argument("--protocol", default="5", choices=["5", "3.1.1"])
    parser.add_argument("--ca", type=Path, help="PEM of the broker's authority (mqtts)")
    parser.add_argument("--certificate", type=Path, help="PEM of our own certificate (mqtts)")
    parser.add_argument("--certificate-key", type=Path, help="PEM of its key")
    parser.add_argument("--client-id", default="voltill-bench-backend")
    parser.add_argument("--root", required=True, help="first part of the topics")
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--db", type=Path, required=True, help="SQLite file")
    parser.add_argument("--key", type=Path, required=True, help="key for acks; made if missing")
    parser.add_argument("--public-key-out", type=Path, help="where its public PEM is written")
    parser.add_argument("--trust-dir", type=Path, action="append", default=[], help="station PEMs")
    parser.add_argument("--station-key", type=Path, action="append", default=[], help="one PEM")
    parser.add_argument("--control", type=Path, required=True, help="control socket")
    args = parser.parse_args(argv)

    async def start() -> Backend:
        link = Link(
            args.url,
            args.protocol,
            args.ca,
            args.certificate,
            args.certificate_key,
            args.client_id,
        )
        link.address()
        key = load_or_make_private(args.key)
        if args.public_key_out is not None:
            args.public_key_out.write_bytes(public_pem(key.public_key()))
        keyring = Keyring(args.trust_dir, args.station_key)
        intake = Intake(Database(args.db), keyring, key, args.root, args.tenant)
        return await Backend(link, intake, args.control).start()

    return run_service(start, args.url)
