"""What `splitwise up` says of a spec that this machine does not do in full."""

from splitwise_cli.commands.up import notices
from splitwise_core.manifest import parse_cluster
from tests.support.manifests import GOOD, changed


def test_an_autoscaled_pool_keeps_its_least_here_and_that_is_said() -> None:
    asked = {"by": "Load", "minReplicas": 2, "maxReplicas": 4}
    (said,) = notices(parse_cluster(changed("spec.pools.0.autoscaling", asked)))
    assert said.startswith("pool prompt: nobody scales it here, it keeps 2")
    assert notices(parse_cluster(GOOD)) == []
