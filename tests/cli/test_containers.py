"""One container as a kubelet keeps it: restarts, probes, hooks, and how it ends."""

import asyncio
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from splitwise_cli.runner.container import BACKOFF_S
from tests.support.pods import (
    FOREVER,
    OBEDIENT,
    STUBBORN,
    container,
    is_gone,
    is_there,
    plan,
    processes_of,
    running,
)

FAILS = "say('run'); sys.exit(1)"


def at_exit(*command: str) -> dict[str, object]:
    """A preStop hook."""
    return {"preStop": {"exec": {"command": list(command)}}}


async def test_what_ends_is_started_again_later_and_later(tmp_path: Path) -> None:
    async with running(tmp_path, plan([container("main", FAILS)])) as pod:
        main = pod.container("main")
        await pod.until(lambda: main.restarts >= 3 and len(pod.said("main")) == 4)
        began = pod.times("main", "run")
        assert main.exit_code == 1
    waits = [later - earlier for earlier, later in pairwise(began)]
    for wait, backoff_s in zip(waits, BACKOFF_S, strict=False):
        assert wait >= backoff_s


async def test_a_mistake_of_the_reader_is_not_retried(tmp_path: Path) -> None:
    mistaken = container("mistaken", "say('run'); sys.exit(2)")
    async with running(tmp_path, plan([mistaken, container("crashing", FAILS)])) as pod:
        await pod.until(lambda: pod.container("crashing").restarts >= 2)
        assert pod.container("mistaken").exit_code == 2
        assert pod.container("mistaken").restarts == 0
        assert pod.said("mistaken") == ["run"]


async def test_a_command_that_is_not_there_is_told_in_the_log(tmp_path: Path) -> None:
    nothing = {"name": "main", "command": ["no-such-command"]}
    async with running(tmp_path, plan([nothing])) as pod:
        await pod.until(lambda: pod.container("main").restarts >= 1)
        assert pod.container("main").exit_code == 127
        assert "no-such-command" in pod.container("main").log_file.read_text()


async def test_a_start_that_takes_too_long_is_made_again(tmp_path: Path) -> None:
    late = container("main", OBEDIENT, startupProbe=is_there("never", period_s=0.3))
    async with running(tmp_path, plan([late])) as pod:
        await pod.until(lambda: pod.container("main").restarts >= 1)
        assert pod.said("main")[:2] == ["up", "term"]
        assert not pod.pod.ready


async def test_while_it_starts_a_container_need_not_be_alive(tmp_path: Path) -> None:
    slow = "time.sleep(0.5); touch('up')\n" + FOREVER
    probes = {"startupProbe": is_there("up", failures=100), "livenessProbe": is_there("up")}
    async with running(tmp_path, plan([container("main", slow, **probes)])) as pod:
        await pod.until(lambda: pod.pod.ready)
        assert pod.container("main").restarts == 0


async def test_a_container_is_ready_as_long_as_its_probe_says_so(tmp_path: Path) -> None:
    main = container("main", readinessProbe=is_there("open", failures=2))
    async with running(tmp_path, plan([main])) as pod:
        await pod.until(lambda: pod.container("main").pid is not None)
        assert not pod.pod.ready
        pod.file("open").touch()
        await pod.until(lambda: pod.pod.ready)
        pod.file("open").unlink()
        await pod.until(lambda: not pod.pod.ready)
        assert pod.container("main").restarts == 0


async def test_without_probes_it_is_ready_when_it_runs(tmp_path: Path) -> None:
    async with running(tmp_path, plan([container("main")])) as pod:
        await pod.until(lambda: pod.pod.ready)


async def test_what_is_no_longer_alive_is_told_to_end_and_started_again(tmp_path: Path) -> None:
    probes = {"startupProbe": is_there("up", failures=100), "livenessProbe": is_there("up")}
    async with running(tmp_path, plan([container("main", OBEDIENT, **probes)])) as pod:
        await pod.until(lambda: pod.pod.ready)
        pod.file("up").unlink()
        await pod.until(lambda: pod.container("main").restarts == 1 and pod.pod.ready)
        assert pod.said("main") == ["up", "term", "up"]


async def test_what_a_container_has_started_ends_with_it(tmp_path: Path) -> None:
    code = "child = os.fork()\nif child:\n    say(child)\n    touch('up')\n" + FOREVER
    main = container("main", code, startupProbe=is_there("up", failures=100))
    async with running(tmp_path, plan([main])) as pod:
        await pod.until(lambda: pod.pod.ready)
        child = int(pod.said("main")[0])
        assert not is_gone(child)
        os.kill(pod.container("main").pid or 0, signal.SIGKILL)
        await pod.until(lambda: pod.container("main").restarts == 1)
        assert is_gone(child)


async def test_the_hook_runs_before_the_process_is_told_to_end(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(say(os.listdir('/run/pod'))))\n"
    code += "touch('up')\n" + FOREVER
    hook = at_exit("sh", "-c", "mv /run/pod/up /run/pod/hooked")
    main = container("main", code, startupProbe=is_there("up", failures=100), lifecycle=hook)
    async with running(tmp_path, plan([main])) as pod:
        await pod.until(lambda: pod.pod.ready)
        await pod.stop()
        assert pod.said("main") == ["['hooked']"]
        assert not pod.pod.ready


async def test_a_hook_that_uses_up_the_grace_costs_nobody_the_word(tmp_path: Path) -> None:
    probe = is_there("up", failures=100)
    main = container("main", OBEDIENT, startupProbe=probe, lifecycle=at_exit("sleep", "60"))
    async with running(tmp_path, plan([main], terminationGracePeriodSeconds=0.3)) as pod:
        await pod.until(lambda: pod.pod.ready)
        await pod.stop()
        assert pod.said("main") == ["up", "term"]
        assert pod.container("main").exit_code == 0


async def test_who_does_not_end_within_the_grace_is_killed(tmp_path: Path) -> None:
    main = container("main", STUBBORN, startupProbe=is_there("up", failures=100))
    async with running(tmp_path, plan([main], terminationGracePeriodSeconds=0.5)) as pod:
        await pod.until(lambda: pod.pod.ready)
        asked_s = time.monotonic()
        await pod.stop()
        assert time.monotonic() - asked_s >= 0.5
        assert pod.said("main") == ["term"]
        assert pod.container("main").exit_code == -signal.SIGKILL


async def test_a_stop_amid_the_back_off_starts_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, plan([container("main", FAILS)])) as pod:
        await pod.until(lambda: pod.container("main").exit_code == 1)
        await pod.stop()
        assert pod.said("main") == ["run"]
        assert pod.container("main").pid is None


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.05], ids=lambda s: f"after {s} s")
async def test_a_stop_during_the_start_leaves_nothing(tmp_path: Path, after_s: float) -> None:
    stubborn = plan([container("main", STUBBORN)], terminationGracePeriodSeconds=0.2)
    async with running(tmp_path, stubborn) as pod:
        await asyncio.sleep(after_s)  # the moment is the case
        await pod.stop()
    assert processes_of(tmp_path) == []


async def test_a_log_keeps_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitwise_cli.runner.container.LOG_BYTES", 1000)
    code = "say('x' * 5000); touch('up')\nsignal.signal(signal.SIGUSR1, lambda *_: say('more'))\n"
    code += "while True:\n    signal.pause()"
    main = container("main", code, startupProbe=is_there("up", failures=100))
    async with running(tmp_path, plan([main])) as pod:
        await pod.until(lambda: pod.pod.ready)
        pod.container("main").trim_log()
        log = pod.container("main").log_file
        assert log.read_text() == "x" * 499 + "\n"
        os.kill(pod.container("main").pid or 0, signal.SIGUSR1)
        await pod.stop()
        assert log.read_text().startswith("x" * 499 + "\n")
        assert log.stat().st_size < 1000, "the process writes on behind what was kept"
