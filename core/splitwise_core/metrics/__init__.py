"""Every metric's name, labels, unit and buckets, once: a module for each component.

A process takes the declarations of its own component from here and moves them through its
`Telemetry`; docs/metrics.md lists all of them in the order in which they stand.
"""
