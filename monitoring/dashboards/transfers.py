"""How KV moves between workers: how fast, by which way, and what of it requests wait for."""

from typing import Final

from monitoring.dashboards.board import Board, Row, Variable, at_a_glance
from monitoring.dashboards.panels import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    PART,
    PER_S,
    SECONDS,
    TOKENS,
    Limits,
    Query,
    heat,
    lines,
    number,
)
from monitoring.dashboards.promql import ONE_CLUSTER as SCOPE
from monitoring.dashboards.promql import or_none, or_zero, share
from splitwise_core.metrics import router, sidecar, worker

_WAY: Final = ("from_pool", "to_pool", "transport")
_WAY_NAME: Final = "{{from_pool}} → {{to_pool}} {{transport}}"
_POOL: Final = ("pool",)
_FAILED: Final = "[^o].*|o[^k].*"
"""Every outcome but `ok`."""

_AT_A_GLANCE: Final = at_a_glance(
    number(
        "KV received",
        "KV bytes that arrive at workers, repeated pushes counted in.",
        BYTES_PER_S,
        Query(SCOPE.rate(sidecar.TRANSFER_BYTES, direction="received"), "received"),
    ),
    number(
        "Transfers",
        "Transfers that ended at their receivers.",
        PER_S,
        Query(SCOPE.rate(sidecar.TRANSFERS, direction="received"), "transfers"),
    ),
    number(
        "Bytes of a transfer",
        "The mean size of what is moved for a request.",
        BYTES,
        Query(
            share(
                SCOPE.rate(sidecar.TRANSFER_BYTES, direction="sent"),
                SCOPE.rate(sidecar.TRANSFERS, direction="sent"),
            ),
            "mean",
        ),
    ),
    number(
        "Visible, P90",
        "Nine of ten requests waited less for their KV after their prompt was done.",
        SECONDS,
        Query(SCOPE.quantile(0.9, sidecar.TRANSFER_VISIBLE), "P90"),
    ),
    number(
        "Failed",
        "The part of transfers that ended otherwise than `ok`.",
        PART,
        Query(
            share(
                or_zero(SCOPE.rate(sidecar.TRANSFERS, outcome=_FAILED)),
                SCOPE.rate(sidecar.TRANSFERS),
            ),
            "part",
        ),
        limits=Limits(look=0.001, bad=0.01),
    ),
    number(
        "Certificates expire in",
        "The sidecar's certificate that ends first. They are renewed long before.",
        SECONDS,
        Query(f"{SCOPE.now(sidecar.CERTIFICATE_EXPIRY, how='min')} - time()", "time left"),
        limits=Limits(look=14 * 86400, bad=2 * 86400),
        without="KV is not encrypted",
    ),
)

_SPEED: Final = Row(
    "Speed",
    [
        lines(
            "KV moved",
            "KV bytes by direction and transport. Where a transport was not to be used, it has "
            "fallen back.",
            BYTES_PER_S,
            Query(
                SCOPE.rate(sidecar.TRANSFER_BYTES, ("pool", "direction", "transport")),
                "{{pool}} {{direction}} {{transport}}",
            ),
        ),
        lines(
            "Visible and whole transfer",
            "What of a transfer a request waits for, after its prompt is done, and all of it: the "
            "difference is hidden behind the prompt.",
            SECONDS,
            *(
                Query(SCOPE.quantile(q / 100, metric), f"{name} P{q}")
                for name, metric in (
                    ("visible", sidecar.TRANSFER_VISIBLE),
                    ("whole", sidecar.TRANSFER_SECONDS),
                )
                for q in (50, 99)
            ),
        ),
        heat(
            "Visible time",
            "How long requests waited for their KV after their prompt was done.",
            SECONDS,
            SCOPE.buckets(sidecar.TRANSFER_VISIBLE),
        ),
        lines(
            "Pushed layer by layer from",
            "Prompts of so many tokens and more are pushed while they are computed, shorter ones "
            "at their end.",
            TOKENS,
            Query(SCOPE.now(worker.LAYERWISE_MIN, _POOL, how="max"), "{{pool}}"),
        ),
    ],
)

_LINKS: Final = Row(
    "Links between pools",
    [
        lines(
            "Rate",
            "What a link moves, digests counted in: the median of those that work. A fall asks "
            "whether the transport has changed, or the network.",
            BYTES_PER_S,
            Query(SCOPE.now(router.LINK_RATE, _WAY, how="avg"), _WAY_NAME),
            width=8,
        ),
        lines(
            "Latency",
            "Duration of a transfer of next to no bytes.",
            SECONDS,
            Query(SCOPE.now(router.LINK_LATENCY, _WAY, how="avg"), _WAY_NAME),
            width=8,
        ),
        lines(
            "Pairs of workers",
            "`failing` ones are not used while another pair is there.",
            COUNT,
            Query(
                SCOPE.now(router.LINKS, ("from_pool", "to_pool", "state"), how="max"),
                "{{from_pool}} → {{to_pool}} {{state}}",
            ),
            width=8,
        ),
        lines(
            "Age of measurements",
            "Time since a link was measured last, by a probe or by a request's transfer.",
            SECONDS,
            Query(
                SCOPE.now(router.LINK_AGE, ("from_pool", "to_pool"), how="max"),
                "{{from_pool}} → {{to_pool}}",
            ),
            width=8,
        ),
        lines(
            "Workers cut off",
            "Ready, but all of their links have failed for a minute. The router's log names them.",
            COUNT,
            Query(or_none(SCOPE.now(router.CUT_OFF_WORKERS, _POOL, how="max"), "pool"), "{{pool}}"),
            width=8,
        ),
        lines(
            "Probes of links",
            "By outcome; `no_capacity` and `draining` are postponed.",
            PER_S,
            Query(SCOPE.events(sidecar.LINK_PROBES, "outcome"), "{{outcome}}"),
            width=8,
        ),
    ],
)

_LEASES: Final = Row(
    "Leases",
    [
        lines(
            "Open leases",
            "By the state of the lease.",
            COUNT,
            Query(SCOPE.now(sidecar.LEASES, ("pool", "state")), "{{pool}} {{state}}"),
            width=8,
        ),
        lines(
            "Oldest lease",
            "Older than requests may take says that one leaks.",
            SECONDS,
            Query(SCOPE.now(sidecar.OLDEST_LEASE, _POOL, how="max"), "{{pool}}"),
            width=8,
        ),
        lines(
            "Workers attached",
            "Sidecars that have their worker's pool. Fewer than workers says that one does not.",
            COUNT,
            Query(SCOPE.now(sidecar.ATTACHED, _POOL), "{{pool}}"),
            width=8,
        ),
    ],
)

_TROUBLE: Final = Row(
    "What went otherwise",
    [
        lines(
            "Transfers by outcome",
            "All but `ok` are recomputed or failed, never decoded.",
            PER_S,
            Query(SCOPE.events(sidecar.TRANSFERS, "outcome"), "{{outcome}}"),
            width=6,
        ),
        lines(
            "Damage",
            "Layers that arrived otherwise than they were sent, pushes made again for it, and "
            "chunks that came too late and were dropped. None was decoded.",
            PER_S,
            Query(SCOPE.rate(sidecar.DAMAGED_LAYERS), "damaged layers"),
            Query(SCOPE.rate(sidecar.REPUSHES), "pushed again"),
            Query(SCOPE.rate(sidecar.LATE_WRITES), "late writes"),
            Query(SCOPE.rate(sidecar.FORCED_FENCES), "memory taken back"),
            width=6,
        ),
        lines(
            "Refused",
            "Calls of peers without the right to what they asked for, by reason.",
            PER_S,
            Query(SCOPE.events(sidecar.REFUSED_CALLS, "refusal"), "{{refusal}}"),
            width=6,
        ),
        lines(
            "Transports left out",
            "Sidecars that have the devices of a transport and cannot use it: KV moves by a slower "
            "one. The sidecar's log says why.",
            COUNT,
            Query(
                or_none(SCOPE.now(sidecar.LEFT_OUT, ("transport",)), "transport"), "{{transport}}"
            ),
            width=6,
        ),
    ],
)

TRANSFERS: Final = Board(
    "splitwise-kv",
    "Splitwise / KV transfers",
    "How KV moves between workers, and what of it requests wait for.",
    [Variable("namespace", several=False), Variable("cluster", several=False), Variable("pool")],
    [_AT_A_GLANCE, _SPEED, _LINKS, _LEASES, _TROUBLE],
)
