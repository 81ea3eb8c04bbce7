"""What the fields of our models have in common: their base, names and labels."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP: Final = "splitwise.dev"

NAME_LENGTH: Final = 63
"""What Kubernetes allows a Service's name, and so `<cluster>-<pool>`."""


class SpecModel(BaseModel):
    """A mapping of the specification: unknown fields and other types are refused."""

    # A rule that no type can state raises ValueError("what is wrong; the fix").
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)


Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
        max_length=40,
        description="Lower-case letters, digits and dashes; a letter first, no dash last.",
    ),
]
ObjectName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=NAME_LENGTH)
]
DnsName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)
]
"""A name of several parts, as Secrets and certificates may have."""
LabelKey = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?"
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]

ResourceName = Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9_.-]+$")]
"""What a device plugin calls what it offers."""


def not_ours(keys: dict[str, str]) -> dict[str, str]:
    """`keys` as they are. Raises ValueError for a label that Splitwise sets itself."""
    for key in keys:
        if key.startswith(f"{GROUP}/"):
            raise ValueError(f"{key!r} is set by Splitwise itself; leave it out")
    return keys
