"""Whether KV is encrypted, and by whose certificates, as a cluster may be told."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from splitwise_core.fields import DnsName, SpecModel


class Tls(SpecModel):
    """Whether KV is encrypted on its way, and by whose certificates."""

    mode: Annotated[
        Literal["Auto", "Secret", "Plaintext"],
        Field(
            description="Auto makes certificates of the cluster's own and renews them. Secret "
            "takes those in `secretName`. Plaintext encrypts nothing: whoever is on the network "
            "can read prompts out of the KV, and send KV of his own."
        ),
    ] = "Auto"
    secret_name: Annotated[
        DnsName | None,
        Field(
            description="Secret with ca.crt, tls.crt and tls.key, as cert-manager writes them, for "
            "both client and server authentication. What is renewed there is taken up."
        ),
    ] = None
    server_name: Annotated[
        DnsName | None,
        Field(
            description="DNS name in that certificate, by which sidecars know each other; "
            "`CLUSTER.NAMESPACE.kv.splitwise.dev` when left out."
        ),
    ] = None

    @model_validator(mode="after")
    def _secret_is_named_where_it_is_used(self) -> "Tls":
        if self.mode == "Secret" and self.secret_name is None:
            raise ValueError("secretName: mode Secret takes a Secret; say which one")
        for field, value in (("secretName", self.secret_name), ("serverName", self.server_name)):
            if self.mode != "Secret" and value is not None:
                raise ValueError(
                    f"{field}: mode {self.mode} has no use for it; write mode: Secret, or leave "
                    "it out"
                )
        return self
