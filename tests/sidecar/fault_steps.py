"""The steps of the protocol, in their order: each brings a scene there, and holds it."""

from typing import Final

from tests.sidecar.conftest import GEOMETRY
from tests.sidecar.fault_scene import VERIFIED, Scene, until


async def hello(s: Scene) -> None:
    """Hello is under way."""
    s.silence()
    s.open_lease()
    s.start()
    await s.proxy.held.wait()


async def reserve(s: Scene) -> None:
    """Reserve waits for the lease."""
    chosen = s.prompt.program.log.read_text().count("transport chosen")
    s.start()
    await until(lambda: s.prompt.program.log.read_text().count("transport chosen") > chosen)


async def renew(s: Scene) -> None:
    """The lease is claimed, and lives on by Renew alone."""
    s.open_lease()
    s.start()
    await s.until_reserved()


async def first_chunk(s: Scene) -> None:
    """One layer of four has arrived."""
    await renew(s)
    s.layers(1)
    await s.until_received(1)


async def middle_chunk(s: Scene) -> None:
    """Two of four."""
    await first_chunk(s)
    s.layers(2)
    await s.until_received(2)


async def last_chunk(s: Scene) -> None:
    """All bytes are there, and the push has not been finished."""
    await middle_chunk(s)
    s.layers()
    await s.until_received(GEOMETRY.num_layers)


async def commit(s: Scene) -> None:
    """The end of the push, or Commit, is under way."""
    await last_chunk(s)
    s.silence()
    s.finish()
    await (s.line or s.proxy).held.wait()


async def reply_to_commit(s: Scene) -> None:
    """The token worker has verified KV, and the prompt side does not know."""
    await last_chunk(s)
    s.hold_answers()
    s.finish()
    await s.end_at_token()
    assert s.token_end == VERIFIED


async def abort(s: Scene) -> None:
    """The prompt worker has withdrawn, and Abort is under way."""
    await last_chunk(s)
    s.silence()
    s.prompt_worker.withdraw(s.id)
    await s.proxy.held.wait()


STEPS: Final = (
    hello,
    reserve,
    renew,
    first_chunk,
    middle_chunk,
    last_chunk,
    commit,
    reply_to_commit,
    abort,
)
