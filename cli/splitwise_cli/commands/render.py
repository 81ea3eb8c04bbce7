"""`splitwise render`: the objects of a cluster, as they would be applied."""

import json
from pathlib import Path
from typing import Literal

import yaml

from splitwise_cli.commands.up import with_port
from splitwise_core.manifest import load_cluster
from splitwise_operator.render import render as render_objects


def render(file: Path, output: Literal["yaml", "json"], port: int | None) -> None:
    """Prints the objects in apply order. Raises UserError for a file that is not valid."""
    objects = render_objects(with_port(load_cluster(file), port))
    if output == "json":
        print(json.dumps(objects, indent=2))
    else:
        print(yaml.dump_all(objects, Dumper=_Plain, sort_keys=False), end="")


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice: Kubernetes' parsers differ on YAML aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True
