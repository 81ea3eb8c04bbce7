"""One log format for all processes: `level=info component=router msg="..." key=value` on stderr."""

import logging
import sys
from collections.abc import Mapping


class _Line(logging.Formatter):
    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, object] = getattr(record, "fields", {})
        text = record.getMessage().replace('"', "'").replace("\n", " | ")
        pairs = "".join(f" {key}={_value(value)}" for key, value in fields.items())
        line = (
            f"{self.formatTime(record)} level={record.levelname.lower()} "
            f'component={self._component} msg="{text}"{pairs}'
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _value(value: object) -> str:
    text = str(value).replace("\n", " | ")
    return f'"{text}"' if " " in text or not text else text


def configure(component: str, level: int = logging.INFO) -> logging.Logger:
    """The process's logger. Fields go in as `extra={"fields": {...}}`; prompts never do."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(component))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    return logging.getLogger(f"splitwise.{component}")
