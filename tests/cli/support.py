"""Commands as a user gives them, on files with one mistake each; nothing may stay behind."""

import copy
import io
import json
import os
import subprocess
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from splitwise_cli.main import main
from tests.support.cluster import SPLITWISE
from tests.support.pods import processes_of
from tests.support.tokenizers import write_tokenizer

GOOD: dict[str, Any] = {
    "apiVersion": "splitwise.dev/v1alpha1",
    "kind": "SplitwiseCluster",
    "metadata": {"name": "demo"},
    "spec": {
        "model": {"name": "tiny", "path": "model"},
        "pools": [
            {"name": "prompt", "role": "prompt", "kvMemory": "64Mi"},
            {"name": "token", "role": "token", "kvMemory": "64Mi"},
        ],
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """GOOD with the value at a dotted path replaced; `...` removes it."""
    document = copy.deepcopy(GOOD)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = document
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


class Desk:
    """A directory of its own for a user: a cluster file, a state directory, TMPDIR."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "cluster.yaml"
        self.model = directory / "model"
        self.state = directory / "state"
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.write(GOOD)

    def write(self, document: object) -> None:
        """Replaces the cluster file; text and bytes are written as they are."""
        if isinstance(document, bytes):
            self.file.write_bytes(document)
        else:
            text = document if isinstance(document, str) else yaml.safe_dump(document)
            self.file.write_text(text)

    def write_model(self) -> None:
        """A whole checkpoint as far as files go, and far too small to be of use."""
        write_tokenizer(self.model)
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 1,
            "rms_norm_eps": 1e-5,
            **json.loads((self.model / "config.json").read_text()),
        }
        (self.model / "config.json").write_text(json.dumps(config))
        weights = {"model.embed_tokens.weight": np.zeros((400, 64), np.float32)}
        save_file(weights, self.model / "model.safetensors")

    def says(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """As `command`, inside this process: for what starts nothing, and quick."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            redirect_stdout(stdout),
            redirect_stderr(stderr),
            chdir(self.directory),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr("sys.argv", ["splitwise", *arguments])
            patch.setenv("TMPDIR", str(self.temporary))
            try:
                code = main()
            except SystemExit as end:
                code = int(end.code or 0)
        return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Runs `splitwise` here, with this directory's state and temporary files."""
        environment = os.environ | {"TMPDIR": str(self.temporary), "XDG_STATE_HOME": "/nowhere"}
        return subprocess.run(
            [SPLITWISE, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.directory,
            env=environment,
        )

    def up(self, *arguments: str) -> list[str]:
        """The arguments of `splitwise up` on the cluster file."""
        return ["up", "-f", str(self.file), "--state-dir", str(self.state), *arguments]

    def refused(self, *arguments: str, within_s: float = 10.0) -> str:
        """What `up` says on stderr; asserts that it gives up by itself and leaves nothing."""
        began_s = time.monotonic()
        done = self.command(*self.up(*arguments))
        assert time.monotonic() - began_s < within_s
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        self.is_empty()
        return done.stderr

    def is_empty(self) -> None:
        """Asserts that nothing runs or lies around on behalf of this directory."""
        assert processes_of(self.directory) == []
        assert list(self.temporary.iterdir()) == []
        assert not (self.state / "status.json").exists()
