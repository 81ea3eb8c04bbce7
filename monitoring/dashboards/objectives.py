"""What is asked of the objectives of a spec, the same on every dashboard."""

from collections.abc import Sequence

from monitoring.dashboards.promql import Scope, share
from splitwise_core.metrics import router


def kept(scope: Scope, by: Sequence[str] = (), objective: str = "all") -> str:
    """The part of requests that kept to an objective; to all of them, it is goodput's."""
    chosen = {"objective": objective}
    return share(
        scope.rate(router.SLO_REQUESTS, by, **chosen, verdict="met"),
        scope.rate(router.SLO_REQUESTS, by, **chosen),
    )


def burn(scope: Scope) -> str:
    """How many times as fast as it may the error budget is used up."""
    return f"(1 - ({kept(scope)})) / (1 - {scope.now(router.SLO_PART, how='max')})"
