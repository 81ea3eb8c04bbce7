"""`make demo`: one cluster, several questions at once, and where each answer was computed."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from openai import AsyncOpenAI
from rich.console import Console
from rich.table import Table

from splitwise_core.tiny_tasks import Question, questions

ROOT = Path(__file__).parents[1]
SPLITWISE = str(Path(sys.executable).parent / "splitwise")
MODEL = ROOT / ".cache" / "models" / "tiny"
STATE = ROOT / ".local" / "demo"
QUESTIONS = 8

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


@dataclass(slots=True)
class Answer:
    """One request as its client saw it. Times in seconds."""

    question: Question
    text: str = ""
    prompt_worker: str = ""
    token_worker: str = ""
    ttft_s: float = 0.0
    token_times_s: list[float] = field(default_factory=list)
    usage: Any = None

    @property
    def right(self) -> bool:
        return self.text.strip() == self.question.answer

    @property
    def tbt_s(self) -> float:
        """Median time between two tokens."""
        gaps = [b - a for a, b in zip(self.token_times_s, self.token_times_s[1:], strict=False)]
        return median(gaps) if gaps else 0.0


def splitwise(*arguments: str) -> None:
    """Runs a command of ours; the demo ends with its status when it fails."""
    done = subprocess.run([SPLITWISE, *arguments], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def free_port(wanted: int = 8000) -> int:
    """`wanted`, or another port when that is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("no free port on 127.0.0.1")


async def ask(client: AsyncOpenAI, question: Question) -> Answer:
    """Streams the answer to one question."""
    answer = Answer(question)
    started = time.perf_counter()
    request = client.chat.completions.with_raw_response.create(
        model="tiny",
        messages=[{"role": "user", "content": question.prompt}],
        max_tokens=question.max_tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    response = await request
    answer.prompt_worker = response.headers["x-splitwise-prompt-worker"]
    answer.token_worker = response.headers["x-splitwise-token-worker"]
    async for chunk in response.parse():
        for choice in chunk.choices:
            text = choice.delta.content or ""
            if text or choice.finish_reason == "stop":  # the end is a token too, without a text
                answer.token_times_s.append(time.perf_counter() - started)
            answer.text += text
        answer.usage = chunk.usage or answer.usage
    answer.ttft_s = answer.token_times_s[0]
    shown = question.prompt if len(question.prompt) < 48 else f"… {question.prompt[-44:]}"
    console.print(f"  [dim]{shown!r:>52}[/] → [bold]{answer.text.strip()}[/]")
    return answer


async def ask_all(url: str, asked: Sequence[Question]) -> list[Answer]:
    """All questions at once."""
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        return await asyncio.gather(*(ask(client, question) for question in asked))


def table(answers: Sequence[Answer]) -> Table:
    """Where each request ran, and how long it took."""
    result = Table(title="One request, two machines")
    for name in ("prompt tokens", "prompt worker", "token worker", "TTFT", "TBT", "KV bytes"):
        result.add_column(name, justify="left" if "worker" in name else "right")
    result.add_column("transport")
    result.add_column("answer")
    for answer in answers:
        result.add_row(
            str(answer.usage.prompt_tokens),
            answer.prompt_worker,
            answer.token_worker,
            f"{answer.ttft_s * 1e3:.0f} ms",
            f"{answer.tbt_s * 1e3:.1f} ms",
            f"{answer.usage.splitwise['kv_bytes']:,}",
            answer.usage.splitwise["transport"],
            "[green]right[/]" if answer.right else "[red]wrong[/]",
        )
    return result


def main() -> int:
    """0 when every answer was right and its KV-cache moved."""
    console.print("[bold]the tiny model[/] (trained once, then cached)")
    splitwise("model", "tiny", str(MODEL))
    console.print("[bold]starting the cluster of examples/quickstart.yaml[/]")
    cluster = str(ROOT / "examples" / "quickstart.yaml")
    port = str(free_port())
    splitwise("up", "-f", cluster, "--detach", "--port", port, "--state-dir", str(STATE))
    try:
        splitwise("status", "--state-dir", str(STATE))
        command = [SPLITWISE, "status", "-o", "json", "--state-dir", str(STATE)]
        status = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        console.print(f"[bold]asking {QUESTIONS} questions at once[/] at {status['endpoint']}")
        answers = asyncio.run(ask_all(status["endpoint"], questions(QUESTIONS)))
        console.print(table(answers))
    finally:
        splitwise("down", "--state-dir", str(STATE))
    moved = all(answer.usage.splitwise["kv_bytes"] > 0 for answer in answers)
    return 0 if moved and all(answer.right for answer in answers) else 1


if __name__ == "__main__":
    sys.exit(main())
