"""How durations are told to people."""


def duration(seconds: float | None) -> str:
    """Three digits, in the unit that suits it; a dash for None."""
    if seconds is None:
        return "–"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
