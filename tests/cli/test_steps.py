"""Init containers that run once, and what else a pod may ask of whoever runs it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from splitwise_cli.runner.container import Container
from splitwise_cli.runner.environment import invocation
from splitwise_cli.runner.plan import PodPlan
from splitwise_cli.runner.pod import Pod
from splitwise_cli.runner.termination import termination_message
from tests.support.pods import FOREVER, OBEDIENT, container, is_there, plan, running

FIRST_TIME_FAILS = """
if not os.path.exists('/run/pod/tried'):
    touch('tried')
    sys.exit(1)
say('done')
"""


def with_steps(*steps: dict[str, Any]) -> PodPlan:
    """A pod whose first containers have to end well before the main one starts."""
    made = plan([container("main", OBEDIENT, startupProbe=is_there("up", failures=100))])
    return replace(made, spec={**made.spec, "initContainers": list(steps)})


async def test_steps_are_done_one_after_the_other_and_then_the_pod_runs(tmp_path: Path) -> None:
    slow = container("one", "time.sleep(0.3); say('done')")
    steps = with_steps(slow, container("two", "say('done')"))
    async with running(tmp_path, steps) as pod:
        await pod.until(lambda: pod.pod.ready)
        assert pod.when("one", "done") < pod.when("two", "done") < pod.when("main", "up")
        assert [pod.container(name).restarts for name in ("one", "two")] == [0, 0]


async def test_a_step_that_fails_is_made_again_and_the_rest_waits(tmp_path: Path) -> None:
    async with running(tmp_path, with_steps(container("one", FIRST_TIME_FAILS))) as pod:
        await pod.until(lambda: pod.container("one").exit_code == 1)
        assert pod.container("main").pid is None
        await pod.until(lambda: pod.pod.ready)
        assert pod.container("one").restarts == 1


async def test_a_probe_may_start_late_and_ask_for_more_than_one_success(tmp_path: Path) -> None:
    late = {"initialDelaySeconds": 0.4, "successThreshold": 2, **is_there("up", period_s=0.3)}
    main = container("main", "say('up'); touch('up'); " + FOREVER, readinessProbe=late)
    async with running(tmp_path, plan([main])) as pod:
        await pod.until(lambda: bool(pod.container("main").pid))
        began = asyncio.get_running_loop().time()
        await pod.until(lambda: pod.pod.ready)
        assert asyncio.get_running_loop().time() - began >= 0.6


async def test_a_hook_may_be_a_pause(tmp_path: Path) -> None:
    hook = {"preStop": {"sleep": {"seconds": 0.4}}}
    main = container("main", OBEDIENT, startupProbe=is_there("up", failures=99), lifecycle=hook)
    async with running(tmp_path, plan([main])) as pod:
        await pod.until(lambda: pod.pod.ready)
        began = asyncio.get_running_loop().time()
        await pod.stop()
        assert asyncio.get_running_loop().time() - began >= 0.4
        assert pod.said("main") == ["up", "term"]


async def test_who_runs_the_pod_says_whether_a_container_runs_again(tmp_path: Path) -> None:
    passed: list[str] = []

    async def gate() -> None:
        passed.append("gate")

    def again(exit_code: int) -> bool:
        return exit_code == 2 and len(passed) < 2

    changed = asyncio.Event()
    spec = container("main", "sys.exit(2)")
    own = invocation(spec, plan([spec]), {"run": tmp_path}, 500)
    file = tmp_path / "message"
    main = Container(spec, own, "127.66.7.9", tmp_path / "log", 5, changed.set, again, gate, file)
    pod = Pod(plan([spec]), [], [main])
    pod.start()
    async with asyncio.timeout(10):
        await main.finished.wait()
    assert (passed, main.restarts) == (["gate", "gate"], 1)
    assert main.last is not None
    assert (main.last.exit_code, main.last.message) == (2, "")
    await pod.stop()


@pytest.mark.parametrize(
    ("written", "policy", "exit_code", "expected"),
    [
        pytest.param(b"why", "File", 1, "why", id="what was written"),
        pytest.param(b"why", "FallbackToLogsOnError", 1, "why", id="rather than the log"),
        pytest.param(b"", "FallbackToLogsOnError", 1, "new\nlast\n", id="else this run's log"),
        pytest.param(b"", "FallbackToLogsOnError", 0, "", id="nothing of a run that went well"),
        pytest.param(b"", "File", 1, "", id="nothing if nothing is to be read"),
        pytest.param(b"x" * 5000, "File", 1, "x" * 4096, id="no more than 4 KiB"),
    ],
)
def test_a_termination_message_is(
    tmp_path: Path, written: bytes, policy: str, exit_code: int, expected: str
) -> None:
    message, log = tmp_path / "message", tmp_path / "log"
    message.write_bytes(written)
    log.write_text("old\nnew\nlast\n")
    assert termination_message(message, policy, log, len("old\n"), exit_code) == expected


def test_a_container_sees_what_its_cluster_knows() -> None:
    known = PodPlan(
        *("web-0", "web", "mixed", "127.66.1.2", {}, {}),
        annotations={"why": "a test"},
        fields={"metadata.namespace": "team-a"},
        data={("ConfigMap", "words"): {"a": "$(HERE)"}, ("Secret", "keys"): {"k": "s"}},
    )

    def value(name: str, **source: Any) -> dict[str, Any]:
        return {"name": name, "valueFrom": source}

    env = [
        value("NOTE", fieldRef={"fieldPath": "metadata.annotations['why']"}),
        value("NONE", fieldRef={"fieldPath": "metadata.annotations['who']"}),
        value("HERE", fieldRef={"fieldPath": "metadata.namespace"}),
        value("WORD", configMapKeyRef={"name": "words", "key": "a"}),
        value("KEY", secretKeyRef={"name": "keys", "key": "k"}),
        value("MAYBE", secretKeyRef={"name": "keys", "key": "other", "optional": True}),
    ]
    from_all = [{"configMapRef": {"name": "words"}, "prefix": "W_"}]
    seen = invocation({"command": ["x"], "env": env, "envFrom": from_all}, known, {}, 500).env
    own = {name: seen.get(name) for name in ("NOTE", "NONE", "HERE", "WORD", "KEY", "W_a", "MAYBE")}
    assert own == {
        "NOTE": "a test",
        "NONE": "",
        "HERE": "team-a",
        "WORD": "$(HERE)",
        "KEY": "s",
        "W_a": "$(HERE)",
        "MAYBE": None,
    }
