"""The worker's end of the socket to its sidecar: attached, lost, and attached again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from time import sleep

import pytest

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_worker.kv import sidecar_link
from splitwise_worker.kv.host_pool import HostPool
from splitwise_worker.kv.sidecar_link import SidecarLink
from tests.worker.listening_sidecar import WAIT_S, ListeningSidecar
from tests.worker.support import DENIED, OK

GEOMETRY = KvGeometry("m", "float32", 2, 2, 8, 16)


class Linked:
    """A link, and what the engine would hear of it."""

    def __init__(self, path: Path) -> None:
        self.heard: SimpleQueue[kv_pb2.FromSidecarToWorker | None] = SimpleQueue()
        self.pool = HostPool(GEOMETRY, 3)
        lost = lambda: self.heard.put(None)  # noqa: E731
        self.link = SidecarLink(path, "w0", self.pool, self.heard.put, lost)

    def next(self) -> kv_pb2.FromSidecarToWorker | None:
        """The next news; None is the loss."""
        return self.heard.get(timeout=WAIT_S)

    def epoch(self) -> int:
        """The epoch of the attachment that the next news tells of."""
        news = self.next()
        assert news is not None
        return int(news.attached.epoch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kv.sock"


@pytest.fixture
def linked(path: Path) -> Iterator[Linked]:
    made = Linked(path)
    yield made
    made.link.stop()
    made.pool.close()


@pytest.fixture
def sidecar(path: Path) -> Iterator[ListeningSidecar]:
    made = ListeningSidecar(path)
    yield made
    made.close()


def close_lease(transfer: str) -> kv_pb2.FromWorkerToSidecar:
    return kv_pb2.FromWorkerToSidecar(close_lease=kv_pb2.CloseLease(transfer_id=transfer))


def test_the_sidecar_learns_the_pools_shape(linked: Linked, sidecar: ListeningSidecar) -> None:
    linked.link.start()
    said = sidecar.attach(epoch=5)
    assert (said.worker_id, said.num_blocks) == ("w0", 3)
    assert (said.geometry.block_tokens, said.geometry.dtype) == (16, "float32")
    assert linked.epoch() == 5
    assert linked.link.attached


def test_a_sidecar_that_comes_later_is_found(linked: Linked, path: Path) -> None:
    linked.link.start()
    late = ListeningSidecar(path)
    late.attach(epoch=7)
    assert linked.epoch() == 7
    late.close()


def test_a_sidecar_that_says_no_is_asked_again(linked: Linked, sidecar: ListeningSidecar) -> None:
    linked.link.start()
    sidecar.attach(outcome=DENIED)
    sidecar.hang_up()
    sidecar.attach(epoch=6)
    assert linked.epoch() == 6, "no word of the refusal: nothing was attached, nothing was lost"


def test_a_sidecar_that_goes_is_told_of_at_once(linked: Linked, sidecar: ListeningSidecar) -> None:
    linked.link.start()
    sidecar.attach(epoch=5)
    assert linked.epoch() == 5
    sidecar.hang_up()
    assert linked.next() is None
    sidecar.attach(epoch=6)
    assert linked.epoch() == 6


def stuck(linked: Linked, sidecar: ListeningSidecar) -> None:
    """The sidecar reads no more, and its socket's buffer is full."""
    while linked.link.send(5, close_lease("x" * 10_000)):
        pass


def babbling(linked: Linked, sidecar: ListeningSidecar) -> None:
    """The sidecar says what is no message."""
    sidecar.say_raw(b"\xff\xff\xff")


def attached(sidecar: ListeningSidecar, epoch: int) -> bool:
    """Whether the worker that called was still there for the answer."""
    try:
        sidecar.attach(epoch)
    except BrokenPipeError:
        return False
    return True


@pytest.mark.parametrize("fault", [stuck, babbling], ids=["is stuck", "talks nonsense"])
@pytest.mark.parametrize("then", ["attaches anew", "dies"])
def test_the_loss_of_a_sidecar_that_may_still_write_is_told_when_it_cannot(
    linked: Linked,
    sidecar: ListeningSidecar,
    fault: Callable[[Linked, ListeningSidecar], None],
    then: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INV-6: its leases' blocks are not free before it is fenced, or gone."""
    monkeypatch.setattr(sidecar_link, "SEND_TIMEOUT_S", 0.1)
    linked.link.start()
    sidecar.attach(epoch=5)
    assert linked.epoch() == 5
    fault(linked, sidecar)
    monkeypatch.setattr(sidecar_link, "SEND_TIMEOUT_S", WAIT_S)
    while linked.link.attached:
        sleep(0.01)
    assert linked.heard.empty()
    if then == "dies":
        sidecar.close()
        assert linked.next() is None
    else:
        while not attached(sidecar, epoch=6):
            pass
        assert linked.next() is None
        assert linked.epoch() == 6


def test_a_first_answer_that_is_nonsense_is_as_none(
    linked: Linked, sidecar: ListeningSidecar
) -> None:
    linked.link.start()
    sidecar.attach(raw=b"\xff\xff\xff")
    sidecar.attach(epoch=6)
    assert linked.epoch() == 6


def test_words_for_an_earlier_attachment_do_not_reach_the_present_one(
    linked: Linked, sidecar: ListeningSidecar
) -> None:
    assert not linked.link.send(5, close_lease("before any"))
    linked.link.start()
    sidecar.attach(epoch=5)
    linked.epoch()
    assert linked.link.send(5, close_lease("a"))
    assert not linked.link.send(4, close_lease("b"))
    assert [message.close_lease.transfer_id for message in sidecar.heard()] == ["a"]


def test_what_the_sidecar_says_arrives_in_order(linked: Linked, sidecar: ListeningSidecar) -> None:
    linked.link.start()
    sidecar.attach(epoch=5)
    for transfer in "abc":
        sidecar.say(lease_ended=kv_pb2.LeaseEnded(transfer_id=transfer, outcome=OK))
    linked.epoch()
    news = [linked.next() for _ in range(3)]
    assert [message.lease_ended.transfer_id for message in news if message] == ["a", "b", "c"]
