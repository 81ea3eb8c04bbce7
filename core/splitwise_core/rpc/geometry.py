"""The shape of a pool, as processes tell each other."""

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2


def geometry_message(geometry: KvGeometry) -> kv_pb2.Geometry:
    """The message that says it."""
    return kv_pb2.Geometry(
        model=geometry.model,
        dtype=geometry.dtype,
        num_layers=geometry.num_layers,
        kv_heads=geometry.kv_heads,
        head_dim=geometry.head_dim,
        block_tokens=geometry.block_tokens,
    )
