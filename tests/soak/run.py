"""The soak itself: what a router does, what chaos does, and what must hold in the end."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from tests.soak.party import SETTLED_S, Event, Party, early_and_late
from tests.soak.worker import GEOMETRY

TRANSFERS_AT_ONCE: Final = 24
MAX_TOKENS: Final = 48 * GEOMETRY.block_tokens
DEADLINE_S: Final = 8.0
RETURN_S: Final = 10.0
"""Blocks are back this long after their transfer broke: the lease's bound."""

STUCK_S: Final = 30.0
GROWTH_BYTES: Final = 32 << 20
"""Memory is flat when it grew by less: the allocator keeps what a burst has taken, for each thread
by itself, and it takes minutes until each has met its largest one."""

GROWTH_DESCRIPTORS: Final = 32
FAULTS: Final = ("kill sidecar", "kill worker", "freeze sidecar", "freeze worker")
FROZEN_S: Final = (0.2, 2.5)
"""A lease that is opened with a frozen sidecar begins when it thaws: both fit into RETURN_S."""

CALM_S: Final = (0.3, 2.0)
WITHDRAWN: Final = 0.08
CLOSED: Final = 0.05


@dataclass
class Record:
    """One transfer: who takes part, and how and when it ended for each."""

    prompt: Party
    token: Party
    ends: dict[str, str] = field(default_factory=dict)
    broke_s: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, side: str, outcome: str) -> float:
        """Seconds from when it broke to its last end; 0 when it did not, or is not over."""
        self.ends[side] = outcome
        now = time.monotonic()
        if outcome not in ("ok", "verified") and not self.broke_s:
            self.broke_s = now
        if len(self.ends) < 2:
            return 0.0
        self.over.set()
        return now - self.broke_s if self.broke_s else 0.0


class Soak:
    """Runs for a while; `report` says what was seen."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._draw = random.Random(seed)
        # The first of each kind lives through the whole run: its memory must not grow.
        names = {"p1": ["tcp"], "p2": ["shm"], "t1": [], "t2": []}
        every = ["shm", "tcp", "grpc"]
        self.parties = {
            name: Party(directory, name, only or every, self._hear) for name, only in names.items()
        }
        self._prompts = [self.parties["p1"], self.parties["p2"]]
        self._tokens = [self.parties["t1"], self.parties["t2"]]
        self._mortal = [self.parties["p2"], self.parties["t2"]]
        self._next_transports = cycle([["grpc"], ["shm"], ["tcp"]])
        self._records: dict[str, Record] = {}
        self._number = 0
        self._over = False
        self.outcomes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.slowest_return_s = 0.0
        self.violations: list[str] = []

    async def run(self, seconds: float) -> dict[str, Any]:
        """Starts everything, lets it run, ends it; what was seen."""
        try:
            await asyncio.gather(*(party.start() for party in self.parties.values()))
            await self._until_attached()
            slots = [asyncio.create_task(self._slot()) for _ in range(TRANSFERS_AT_ONCE)]
            others = [asyncio.create_task(task) for task in (self._chaos(), self._measure())]
            await asyncio.wait([*slots, *others], timeout=seconds, return_when="FIRST_EXCEPTION")
            self._over = True
            await asyncio.gather(*others)
            self._thaw_all()
            await asyncio.gather(*slots)
            await self._until_attached()
            return await self._report()
        finally:
            await asyncio.gather(*(party.stop() for party in self.parties.values()))

    # ---- the router ----

    async def _slot(self) -> None:
        while not self._over:
            prompt, token = self._draw.choice(self._prompts), self._draw.choice(self._tokens)
            if prompt.is_attached.is_set() and token.is_attached.is_set():
                await self._transfer(prompt, token)
            else:
                await asyncio.sleep(0.05)

    async def _transfer(self, prompt: Party, token: Party) -> None:
        self._number += 1
        number, transfer_id = self._number, f"soak-{self._number}"
        record = self._records[transfer_id] = Record(prompt, token)
        tokens = self._draw.randint(1, MAX_TOKENS)
        common = {"id": transfer_id, "tokens": tokens, "number": number}
        deadline = int((time.time() + DEADLINE_S) * 1000)
        token.tell(do="open", **common)
        prompt.tell(do="start", peer=token.sidecar.address, deadline_unix_ms=deadline, **common)
        await self._perhaps_cancel(record, transfer_id)
        try:
            async with asyncio.timeout(STUCK_S):
                await record.over.wait()
        except TimeoutError:
            names = f"{prompt.name} to {token.name}"
            self.violations.append(f"{transfer_id} ({names}) never ended: {record.ends}")
        del self._records[transfer_id]
        said = [record.ends.get(side, "never") for side in ("prompt", "token")]
        self.outcomes["/".join(said)] += 1
        if said[0] == "ok" and said[1] not in ("verified", "died", "gone"):
            self.violations.append(f"{transfer_id}: the prompt side believes what was not: {said}")

    async def _perhaps_cancel(self, record: Record, transfer_id: str) -> None:
        chance = self._draw.random()
        if chance < WITHDRAWN + CLOSED:
            await asyncio.sleep(self._draw.uniform(0, 0.1))
        if chance < WITHDRAWN:
            record.prompt.tell(do="withdraw", id=transfer_id)
        elif chance < WITHDRAWN + CLOSED:
            record.token.tell(do="close", id=transfer_id)

    def _hear(self, party: Party, event: Event) -> None:
        if event["event"] == "died":
            for record in self._records.values():
                for side, who in (("prompt", record.prompt), ("token", record.token)):
                    if who is party and side not in record.ends:
                        self._end(record, side, "died")
            return
        ended = self._records.get(event["id"])
        if event["event"] == "twice" or ended is None or event["side"] in ended.ends:
            self.violations.append(f"{party.name} heard of a second end: {event}")
            return
        if event["differs"]:
            self.violations.append(f"{event['id']} was verified with other bytes than were sent")
        self._end(ended, event["side"], event["outcome"])

    def _end(self, record: Record, side: str, outcome: str) -> None:
        self.slowest_return_s = max(self.slowest_return_s, record.end(side, outcome))

    # ---- chaos ----

    async def _chaos(self) -> None:
        thawing: set[asyncio.Task[None]] = set()
        while not self._over:
            await asyncio.sleep(self._draw.uniform(*CALM_S))
            party = self._draw.choice(list(self.parties.values()))
            what = self._draw.choice(FAULTS)
            if what == "kill sidecar":
                party = self._draw.choice(self._mortal)
                if party is self.parties["p2"]:
                    party.sidecar.will_use(next(self._next_transports))
                party.kill_sidecar()
            elif what == "kill worker":
                await party.kill_worker()
            elif not party.frozen:
                who = what.split()[1]
                party.freeze(who)
                task = asyncio.create_task(self._thaw_later(party, who))
                thawing.add(task)
                task.add_done_callback(thawing.discard)
            self.faults[what] += 1

    async def _thaw_later(self, party: Party, who: str) -> None:
        await asyncio.sleep(self._draw.uniform(*FROZEN_S))
        party.thaw(who)

    def _thaw_all(self) -> None:
        for party in self.parties.values():
            for who in list(party.frozen):
                party.thaw(who)

    # ---- what must hold ----

    async def _measure(self) -> None:
        while not self._over:
            for name in ("p1", "t1"):
                self.parties[name].measure()
            await asyncio.sleep(0.25)

    async def _until_attached(self) -> None:
        async with asyncio.timeout(2 * STUCK_S):
            for party in self.parties.values():
                await party.is_attached.wait()

    async def _report(self) -> dict[str, Any]:
        leaked = {name: await self._leaked(party) for name, party in self.parties.items()}
        memory = {name: early_and_late(self.parties[name].memory_bytes) for name in ("p1", "t1")}
        descriptors = {name: early_and_late(self.parties[name].descriptors) for name in memory}
        mapped = {name: party.mapped_pools() for name, party in self.parties.items()}
        if any(leaked.values()):
            self.violations.append(f"blocks leaked: {leaked}")
        if self.slowest_return_s > RETURN_S:
            self.violations.append(f"blocks came back after {self.slowest_return_s:.1f} s")
        for name, (early, late) in memory.items():
            if late - early > GROWTH_BYTES:
                self.violations.append(f"the memory of {name}'s sidecar grew: {early} to {late} B")
        for name, (early, late) in descriptors.items():
            if late - early > GROWTH_DESCRIPTORS:
                self.violations.append(f"{name}'s sidecar has more descriptors: {early}, {late}")
        if any(pools > len(self.parties) - 1 for pools in mapped.values()):
            self.violations.append(f"pools of dead workers are mapped: {mapped}")
        self.violations += self._bugs()
        mismatches = sum("other bytes" in each for each in self.violations)
        return {
            "transfers": sum(self.outcomes.values()),
            "verified": sum(n for ends, n in self.outcomes.items() if ends.endswith("/verified")),
            "ends_at_prompt_and_token": dict(self.outcomes.most_common()),
            "faults": dict(self.faults),
            "leaked_blocks": sum(leaked.values()),
            "accepted_mismatches": mismatches,
            "slowest_return_s": round(self.slowest_return_s, 2),
            "resident_mib_early_late": {
                name: [round(each / (1 << 20), 1) for each in pair] for name, pair in memory.items()
            },
            "descriptors_early_late": {name: list(pair) for name, pair in descriptors.items()},
            "mapped_pools": mapped,
            "violations": self.violations,
        }

    def _bugs(self) -> list[str]:
        """What no process should have said."""
        return [
            f"{log.stem}: {line}"
            for log in sorted(self._directory.glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()
            if "Traceback" in line or "level=error" in line
        ]

    async def _leaked(self, party: Party) -> int:
        """Blocks that the worker lacks, and leases that its sidecar still has, when all is over."""
        party.tell(do="count")
        async with asyncio.timeout(SETTLED_S):
            counted = await party.counted.get()
            while leases := await party.sidecar.value("splitwise_kv_leases"):
                await asyncio.sleep(0.1)
        return int(counted["total"] - counted["free"] + leases)
