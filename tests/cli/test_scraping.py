"""What a Prometheus beside a local cluster is told to scrape."""

from splitwise_cli.runner.plan import pods
from splitwise_cli.runner.scraping import metrics_of, targets
from splitwise_operator.render import render
from tests.operator.rendered import cluster


def test_every_process_is_scraped_with_the_labels_that_it_has_in_kubernetes() -> None:
    planned = pods(render(cluster(meta={"namespace": "team"})))
    told = {}
    for one in targets(cluster(meta={"namespace": "team"}).metadata, planned):
        (target,) = one["targets"]
        labels = one["labels"]
        assert (labels.pop("namespace"), labels.pop("cluster")) == ("team", "demo")
        told[target] = labels
    assert list(told.values()) == [
        {"pod": pod.name, "container": container}
        for pod in planned
        for container in (("router",) if pod.role == "router" else ("kv", "worker"))
    ]


def test_a_target_is_the_pods_address_and_the_port_of_its_metrics() -> None:
    (router,) = (pod for pod in pods(render(cluster())) if pod.role == "router")
    assert list(metrics_of(router)) == [("router", "127.0.0.1:8000")]
