"""What a router allows is what its workers' sidecars do, and nothing else (INV-15)."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.house import House, ask, house

pytestmark = pytest.mark.e2e

OLD, NEW, FOREIGN = "0a" * 32, "0b" * 32, "0c" * 32
REFUSED = "splitwise_kv_refused_calls_total"


def write(path: Path, *keys: str) -> None:
    """As the kubelet does: the new file takes the old one's name."""
    draft = path.with_suffix(".new")
    draft.write_text("\n".join(keys))
    os.replace(draft, path)


def answers(built: House) -> int:
    """The status of an answer; one that is 200 was right."""
    return asyncio.run(ask(built)).status_code


def test_kv_moves_by_the_routers_leave_alone(tmp_path: Path, tiny_model: Path) -> None:
    keys = {name: tmp_path / f"{name}.key" for name in ("router", "prompt", "token")}
    for path in keys.values():
        write(path, OLD)
    with house(tmp_path, tiny_model, keys) as built:
        built.start()
        assert answers(built) == 200
        for step in ([OLD, NEW], [NEW, OLD], [NEW]):  # one process after the other
            for path in keys.values():
                write(path, *step)
                assert answers(built) == 200
        assert built.metric("token-kv-status", REFUSED) == 0
        assert built.metric("prompt-status", "splitwise_worker_computed_tokens_total") > 0

        write(keys["router"], FOREIGN)
        assert answers(built) == 503
        assert built.metric("token-kv-status", REFUSED, refusal="forged") > 0
        write(keys["router"], NEW)
        assert answers(built) == 200
        assert not any(key in built.logs() for key in (OLD, NEW, FOREIGN))
