"""What a Grafana on this machine is given to start with."""

import json
from pathlib import Path

import yaml

from monitoring.dashboards import BOARDS
from monitoring.grafana import provision


def test_a_grafana_is_given_the_prometheus_and_every_dashboard(tmp_path: Path) -> None:
    provision(tmp_path, "http://127.0.0.1:9090")
    given = tmp_path / "provisioning"
    (source,) = yaml.safe_load((given / "datasources" / "splitwise.yaml").read_text())[
        "datasources"
    ]
    assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9090")
    (folder,) = yaml.safe_load((given / "dashboards" / "splitwise.yaml").read_text())["providers"]
    files = Path(folder["options"]["path"]).glob("*.json")
    assert {json.loads(file.read_text())["uid"] for file in files} == {one.uid for one in BOARDS}
