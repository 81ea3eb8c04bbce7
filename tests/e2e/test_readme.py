"""What the README shows is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def block(language: str, containing: str) -> str:
    """The code block of the README that holds `containing`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_cluster_file_the_commands_and_the_client_work_as_shown(
    tmp_path: Path, tiny_model: Path
) -> None:
    port = free_port()
    cluster = block("yaml", "kind: SplitwiseCluster") + f"  router: {{port: {port}}}\n"
    (tmp_path / "cluster.yaml").write_text(cluster)
    (tmp_path / ".cache").symlink_to(ROOT / ".cache")
    bin_directory = str(Path(sys.executable).parent)
    env = os.environ | {
        "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }

    def run(command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    shown = [line.removeprefix("$ ") for line in block("console", "splitwise up").splitlines()]
    commands = [line for line in shown if line.startswith("splitwise")]
    assert commands[-1].startswith("splitwise down")
    said = {}
    try:
        for command in commands[:-1]:
            said[command.split()[1]] = run(["bash", "-c", command])
        client = block("python", "from openai import OpenAI").replace(":8000", f":{port}")
        answered = run([sys.executable, "-c", client])
    finally:
        run(["bash", "-c", commands[-1]])
    assert said["chat"].split() == ["42"]
    assert "quickstart-token-1" in said["status"]
    assert answered.startswith(" 7{")
    assert "'transport': 'shm'" in answered
