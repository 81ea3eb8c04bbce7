"""A picture of a cluster, from two readings of it: what is now, and what happened between."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from splitwise_cli.top.differences import Times, rate, together
from splitwise_cli.top.readings import GROWING, TIMES, Pool, Reading, RouterReading

PERCENTS: Final = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class PoolLine:
    """One pool. `desired` and `scaled` are empty where nobody tells what there should be."""

    pool: Pool
    desired: int | None
    scaled: str

    @property
    def kv_fill(self) -> float:
        """Part of the KV blocks that are not free, from 0 to 1."""
        pool = self.pool
        return 1 - pool.free_kv_blocks / pool.kv_blocks if pool.kv_blocks else 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """Rates are of all routers together, over the `seconds` between the readings."""

    name: str
    model: str
    seconds: float
    why_not_ready: str | None
    running: int
    waiting: int
    waiting_tokens: int
    expected_wait_s: float
    answered_per_s: float
    failed_per_s: float
    per_s: Mapping[str, float]
    times: Mapping[str, Times]
    pools: tuple[PoolLine, ...]
    transfer: tuple[Mapping[str, Any], ...]
    routers: int
    missing: Mapping[str, str]

    def body(self) -> dict[str, Any]:
        """As `-o json` prints it; times in seconds, shares from 0 to 1."""
        per_s = {f"{name}PerSecond": value for name, value in self.per_s.items()}
        return {
            "cluster": self.name,
            "model": self.model,
            "seconds": self.seconds,
            "ready": self.why_not_ready is None,
            "why": self.why_not_ready,
            "routers": self.routers,
            "missing": dict(self.missing),
            "requests": {
                "running": self.running,
                "waiting": self.waiting,
                "waitingTokens": self.waiting_tokens,
                "expectedWaitSeconds": self.expected_wait_s,
                "answeredPerSecond": self.answered_per_s,
                "failedPerSecond": self.failed_per_s,
                **per_s,
            },
            "times": {name: _percentiles(times) for name, times in self.times.items()},
            "pools": [
                asdict(line.pool)
                | {"desired": line.desired, "kv_fill": line.kv_fill, "scaled": line.scaled}
                for line in self.pools
            ],
            "transfer": [dict(pair) for pair in self.transfer],
        }


def picture(before: Reading, now: Reading) -> Picture:
    """What `now` shows, and what came about since `before`; `now` has one router at least."""
    routers = list(now.routers.values())
    fullest = max(routers, key=lambda one: sum(pool.workers for pool in one.pools))
    grown = [_grown(before.routers.get(name), one) for name, one in now.routers.items()]
    known = {pool.name for pool in fullest.pools}
    absent = [Pool(name, "") for name in now.wanted if name not in known]
    shut = [one.why_not_ready for one in routers]
    return Picture(
        name=now.name,
        model=fullest.model,
        seconds=max((one.seconds for one in grown), default=0.0),
        why_not_ready=None if None in shut else shut[0],
        running=sum(one.running for one in routers),
        waiting=sum(one.waiting for one in routers),
        waiting_tokens=sum(one.waiting_tokens for one in routers),
        expected_wait_s=max(one.expected_wait_s for one in routers),
        answered_per_s=sum(rate(one.answered, 0, one.seconds) for one in grown),
        failed_per_s=sum(rate(one.failed, 0, one.seconds) for one in grown),
        per_s={
            name: sum(rate(one.counters[name], 0, one.seconds) for one in grown) for name in GROWING
        },
        times={name: together(one.times[name] for one in grown) for name in TIMES},
        pools=tuple(_line(pool, now) for pool in (*fullest.pools, *absent)),
        transfer=tuple(fullest.transfer),
        routers=len(routers),
        missing=now.missing,
    )


@dataclass(frozen=True, slots=True)
class _Growth:
    """What one router did in `seconds`."""

    seconds: float
    answered: float
    failed: float
    counters: Mapping[str, float]
    times: Mapping[str, Times]


def _grown(before: RouterReading | None, now: RouterReading) -> _Growth:
    """What a router did between; one that is new here has done nothing yet that we could date.

    One that has been restarted counts from its start.
    """
    if before is None or now.at_unix_s <= before.at_unix_s:
        nothing = {name: Times() for name in TIMES}
        return _Growth(0.0, 0, 0, dict.fromkeys(GROWING, 0.0), nothing)
    if now.began_unix_s != before.began_unix_s:
        seconds = max(1e-3, now.at_unix_s - now.began_unix_s)
        return _Growth(seconds, now.answered, now.failed, now.counters, now.times)
    return _Growth(
        seconds=now.at_unix_s - before.at_unix_s,
        answered=now.answered - before.answered,
        failed=now.failed - before.failed,
        counters={name: now.counters[name] - before.counters[name] for name in GROWING},
        times={name: now.times[name].since(before.times[name]) for name in TIMES},
    )


def _line(pool: Pool, now: Reading) -> PoolLine:
    wanted = now.wanted.get(pool.name)
    return PoolLine(pool, wanted.desired, wanted.scaled) if wanted else PoolLine(pool, None, "")


def _percentiles(times: Times) -> dict[str, float | int | None]:
    found = {f"p{percent}": times.percentile(percent) for percent in PERCENTS}
    return {"count": times.count, **found}
