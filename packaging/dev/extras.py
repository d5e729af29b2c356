"""What the tests of the agent's extras use: built where that can be done, left out where it cannot.

Nothing here fails: without one of these its tests are skipped, and the table of skips says so."""

import shutil
import sysconfig
from pathlib import Path

from dev import environment
from dev.environment import Spec
from dev.say import DevError, warn

TSS_HEADER = "/usr/include/tss2/tss2_esys.h"


def lacking(spec: Spec) -> str:
    """What would have to be there first; empty when a build can be tried."""
    if not spec.sources:
        return ""
    python = Path(sysconfig.get_path("include"), "Python.h")
    needs = {
        "libtss2-dev": Path(TSS_HEADER).exists(),
        "gcc": shutil.which("gcc") is not None,
        "pkg-config": shutil.which("pkg-config") is not None,
        "python3-dev": python.exists(),
    }
    return " ".join(name for name, there in needs.items() if not there)


def ensure() -> None:
    """Build what is not there yet and can be built."""
    for spec in (environment.pkcs11_spec(), environment.tpm_spec()):
        if environment.is_complete(spec):
            continue
        packages = lacking(spec)
        if packages:
            warn(f"extra {spec.name} is left out; it needs: apt-get install -y {packages}")
            continue
        try:
            environment.ensure(spec)
        except DevError as error:
            warn(f"extra {spec.name} is left out; its tests will be skipped: {error}")
