"""How those who are not let in at the gRPC door are counted."""

from splitwise_sidecar.handshakes import FORGET_S, PATIENCE_S, Handshakes


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_handshake_that_no_call_follows_is_counted_once() -> None:
    clock = Clock()
    counted = Handshakes(clock)
    counted.begun()
    counted.begun()
    counted.heard("ipv4:10.0.0.1:1000")
    assert counted.refused() == 0, "the other one may still call"
    clock.now = PATIENCE_S
    assert [counted.refused() for _ in range(3)] == [1, 0, 0]


def test_a_connection_is_heard_for_the_first_time_once() -> None:
    clock = Clock()
    counted = Handshakes(clock)
    counted.begun()
    assert counted.heard("ipv4:10.0.0.1:1000")
    counted.begun()
    assert not counted.heard("ipv4:10.0.0.1:1000")
    clock.now = FORGET_S + 1
    assert counted.refused() == 1
    assert counted.heard("ipv4:10.0.0.1:1000"), "the port may be another connection's by now"
