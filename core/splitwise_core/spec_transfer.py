"""How KV moves between workers, as a cluster may be told."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from splitwise_core.fields import LabelKey, ResourceName, SpecModel
from splitwise_core.spec_tls import Tls

RDMA_IN_THE_CLEAR: Final = "RDMA encrypts nothing; ask for that with Plaintext, or allow others"


class Rdma(SpecModel):
    """RDMA devices of one worker, by the resource name of the device plugin."""

    resource: Annotated[
        ResourceName,
        Field(description="As the device plugin names it, such as rdma/ib or rdma/hca."),
    ]
    count: Annotated[int, Field(ge=1, le=16, description="Devices of one worker.")] = 1


class Transfer(SpecModel):
    """How KV moves between workers."""

    transport: Annotated[
        Literal["Auto", "SHM", "RDMA", "TCP", "GRPC"],
        Field(
            description="Auto takes the cheapest that works between two workers: shared memory "
            "on one machine, RDMA where there are devices, TCP, or gRPC. Another value takes that "
            "one, and no other."
        ),
    ] = "Auto"
    lease_seconds: Annotated[
        int,
        Field(ge=2, le=300, description="A reservation ends this long after its last renewal."),
    ] = 10
    probe_seconds: Annotated[
        int,
        Field(
            ge=5,
            le=86_400,
            description="A link between two workers that no request uses is measured this often.",
        ),
    ] = 60
    rdma: Annotated[
        Rdma | None, Field(description="Gives the KV sidecars, and them alone, RDMA devices.")
    ] = None
    require_rdma: Annotated[
        bool, Field(description="Workers are not ready rather than move KV by anything else.")
    ] = False
    topology_key: Annotated[
        LabelKey | None,
        Field(
            description="Node label, such as topology.kubernetes.io/zone: workers of the cluster "
            "are placed where it is the same, if they can be."
        ),
    ] = None

    tls: Annotated[Tls, Field(description="How KV is kept from others.")] = Tls()

    @model_validator(mode="after")
    def _required_rdma_is_there(self) -> "Transfer":
        if self.require_rdma and self.rdma is None:
            raise ValueError("rdma: requireRdma needs devices; say which resource the nodes offer")
        if self.transport == "RDMA" and self.rdma is None:
            raise ValueError("rdma: transport RDMA needs devices; say which the nodes offer")
        if self.require_rdma and self.transport not in ("Auto", "RDMA"):
            raise ValueError(
                f"transport: {self.transport} is no RDMA; use RDMA, or leave out requireRdma"
            )
        is_rdma = self.require_rdma or self.transport == "RDMA"
        if is_rdma and self.tls.mode != "Plaintext":
            raise ValueError(f"tls.mode: {RDMA_IN_THE_CLEAR}")
        return self
