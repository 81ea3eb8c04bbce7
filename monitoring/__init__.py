"""What people who watch clusters are given: dashboards for Grafana, made from the metrics' names.

`python -m monitoring.generate` writes them for helm and kustomize. `make demo-monitoring` and the
tests ask what they ask, of a real Prometheus that `monitoring.prometheus` starts.
"""
