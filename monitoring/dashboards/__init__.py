"""The dashboards: each is a module with one `Board`, of which `monitoring.generate` writes JSON."""

from typing import Final

from monitoring.dashboards.anatomy import ANATOMY
from monitoring.dashboards.board import Board, document
from monitoring.dashboards.cluster import CLUSTER
from monitoring.dashboards.fleet import FLEET
from monitoring.dashboards.operator import OPERATOR
from monitoring.dashboards.transfers import TRANSFERS

BOARDS: Final[tuple[Board, ...]] = (FLEET, CLUSTER, TRANSFERS, ANATOMY, OPERATOR)
"""In the order in which somebody looks for what is wrong."""

__all__ = ["BOARDS", "Board", "document"]
