"""Writes docs/errors.md and docs/metrics.md from the tables in the code."""

from pathlib import Path

from splitwise_core import errors, telemetry

DOCS = Path(__file__).parent


def main() -> None:
    """Writes both files."""
    (DOCS / "errors.md").write_text(errors.reference(), "utf-8")
    (DOCS / "metrics.md").write_text(telemetry.reference(), "utf-8")


if __name__ == "__main__":
    main()
