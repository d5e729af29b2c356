"""voltill keys new | show | create"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import config_option, fail, json_option, print_json

if TYPE_CHECKING:
    from agent.trust.keys import KeySource, PublicKey

path_type = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """Make and show keys: in a file, a PKCS#11 token or a TPM."""


@command.command("new")
@click.argument("file", type=path_type)
@json_option
def new(file: Path, as_json: bool) -> None:
    """Make a record key (P-256) in FILE, readable by its owner only. Never overwrites."""
    from agent.trust.keys import KeyFile, KeyRefused

    source = KeyFile(file)
    try:
        public = source.create()
    except (KeyRefused, OSError) as error:
        raise fail(str(error)) from None
    _show(source, public, as_json, f"{file} written")


@command.command("create")
@config_option
@json_option
def create(config: Path, as_json: bool) -> None:
    """Make the record key that the configuration names, in its file, token or TPM. Never replaces one."""
    from agent.trust.keys import KeyRefused

    source = _configured(config)
    try:
        public = source.create()
    except (KeyRefused, OSError) as error:
        raise fail(str(error)) from None
    _show(source, public, as_json, f"made {source.name}")


@command.command("show")
@click.argument("file", type=path_type, required=False)
@config_option
@click.option(
    "--pin-again",
    is_flag=True,
    help="Open the key and sign with it once, even if the device has refused a PIN before.",
)
@json_option
def show(file: Path | None, config: Path, pin_again: bool, as_json: bool) -> None:
    """The public half of the record key: give it to whoever verifies.

    FILE is a key file; without it the key of the configuration is shown, without its PIN."""
    from agent.trust.keys import KeyFile, KeyRefused

    source = _configured(config) if file is None else KeyFile(file)
    first = ""
    try:
        if pin_again:
            signer = source.open(by_person=True)
            try:
                signer.sign(b"voltill keys show")
                public, first = signer.public, f"{source.name} signs"
            finally:
                signer.close()
        else:
            public = source.public()
    except KeyRefused as error:
        raise fail(str(error)) from None
    _show(source, public, as_json, first)


def _configured(config: Path) -> KeySource:
    from agent.cli.settings_file import settings_or_exit
    from agent.station.key_source import record_key

    return record_key(settings_or_exit(config))


def _show(source: KeySource, public: PublicKey, as_json: bool, first: str) -> None:
    spki = public.spki.hex()
    if as_json:
        found = {"kid": public.kid, "public_key": public.pem(), "spki": spki}
        print_json(found | {"kind": source.kind, "name": source.name})
        return
    if first:
        click.echo(first)
    click.echo(f"key id {public.kid}")
    click.echo(f"kind {source.kind}: {source.name}")
    click.echo(f"SPKI {spki}")
    click.echo(public.pem().rstrip())
