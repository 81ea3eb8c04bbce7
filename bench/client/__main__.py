"""`python -m bench.client`: tokens a second that the load laboratory takes in, of its own CPU time.

A server process writes events as our router does, one token each, as fast as it can; the client is
the laboratory's own, with all its checks and counts. The last line is one JSON object.
"""

import asyncio
import json
import time
from typing import Final

from bench.client.server import served
from splitwise_cli.bench.answers import Answer, Outcome
from splitwise_cli.bench.client import Client
from splitwise_cli.bench.prompts import Prompts
from splitwise_cli.bench.summary import Slo, Summary

STREAMS: Final = 64
TOKENS: Final = 1000
ROUNDS: Final = 5


async def main() -> None:
    prompts, summary = Prompts("tiny", checked=True, seed=0), Summary(Slo())
    rates = []
    async with served() as url, Client(url, timeout_s=120) as client:
        for _ in range(ROUNDS):
            answers = [Answer(prompts.ask(8, TOKENS)) for _ in range(STREAMS)]
            began_s = time.process_time()
            await asyncio.gather(*(client.ask(one) for one in answers))
            for one in answers:
                summary.add(one)
            rates.append(STREAMS * TOKENS / (time.process_time() - began_s))
    assert summary.outcomes[Outcome.OK] == ROUNDS * STREAMS, summary.problems
    rates.sort()
    print(f"tokens per CPU second, of {ROUNDS} rounds: {', '.join(f'{r:.0f}' for r in rates)}")
    print(
        json.dumps({"bench": "client", "streams": STREAMS, "tokens_per_cpu_s": rates[ROUNDS // 2]})
    )


if __name__ == "__main__":
    asyncio.run(main())
