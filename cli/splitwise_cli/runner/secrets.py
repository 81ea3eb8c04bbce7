"""The Secret of a cluster on this machine: private files, made and renewed as the operator does."""

import os
import secrets
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from splitwise_core.errors import UserError
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator.kv_content import kept
from splitwise_operator.kv_secret import FILES


def keep(link: Path, cluster: SplitwiseCluster, now: datetime) -> bool:
    """Makes or renews the files in the directory behind `link`; whether that was due.

    The link is turned to a new directory in one step: nobody finds a key beside another's
    certificate. Raises UserError when they cannot be written.
    """
    found = {name: (link / name).read_bytes() for name in FILES if (link / name).is_file()}
    files = kept(found, cluster, now)
    if files == found:
        return False
    try:
        _write(link, files)
    except OSError as error:
        raise UserError(
            "environment",
            where=str(link),
            wrong=f"the keys of the cluster cannot be written: {error.strerror}",
            fix="make room there, or choose another directory with --state-dir",
        ) from error
    return True


def _write(link: Path, files: Mapping[str, bytes]) -> None:
    before = link.resolve()
    directory = link.with_name(f"{link.name}-{secrets.token_hex(4)}")
    directory.mkdir(mode=0o700)
    for name, content in files.items():
        descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
    fresh = directory.with_suffix(".link")
    fresh.symlink_to(directory.name)
    fresh.replace(link)
    if before != link and before.is_dir():
        shutil.rmtree(before, ignore_errors=True)
