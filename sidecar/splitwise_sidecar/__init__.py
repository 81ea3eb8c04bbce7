"""The KV sidecar: the process beside every worker that moves its KV to and from other workers.

In comes the worker's pool as shared memory and what the worker asks (`worker_link`, `attachment`).
Layers go out to a peer (`transfer`, `peer`) and come in from peers under leases (`peer_service`,
`leases`, `lease`). Bytes move through a transport (`transports`), and are verified before the
worker hears of them. `main` is `splitwise-sidecar`.
"""

__all__: list[str] = []
