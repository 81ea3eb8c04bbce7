"""`splitwise profile`: how wrong the fitted models are, for people and for scripts."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from splitwise_core.latency import Fit
from splitwise_planner.phase_times import Key, Shape
from splitwise_planner.profile import Profile, profile_of


def profiles_of(times: dict[Key, list[Shape]]) -> list[Profile]:
    """Of every model and GPU that was measured. Raises UserError (invalid-phase-times)."""
    return [profile_of(times, *key) for key in sorted(times)]


def fits_as_dict(profiles: Sequence[Profile]) -> dict[str, Any]:
    """Errors as ratios, coefficients in seconds."""
    rows = [_row(profile) for profile in profiles]
    return {"profiles": rows, "mean": {phase: _means(rows, phase) for phase in ("prompt", "token")}}


def fits_as_text(profiles: Sequence[Profile]) -> str:
    """A table of errors in %, and what was not believed."""
    found = fits_as_dict(profiles)
    lines = [
        "mean absolute errors in %: of the points fitted, of a fifth left out, of a size left out",
        f"{'':36}{'prompt':^27}{'decoding':^27}",
        f"{'model, GPU, tensor-parallel':<36}" + 2 * f"{'fitted':>9}{'fifth':>9}{'size':>9}",
    ]
    for row in found["profiles"]:
        name = f"{row['model']} {row['gpu']} {row['tensor_parallel']}"
        lines.append(f"{name:<36}{_cells(row['prompt'])}{_cells(row['token'])}")
    lines.append(f"{'mean':<36}{_cells(found['mean']['prompt'])}{_cells(found['mean']['token'])}")
    lines.append("")
    for row in found["profiles"]:
        name = f"{row['model']} {row['gpu']} {row['tensor_parallel']}"
        lines += [f"{name}: {why}" for why in row["left_out"]]
    lines += _ends(found["profiles"])
    return "\n".join(lines) + "\n"


def _ends(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Sizes whose error is that of going on beyond the others."""
    beyond = [
        f"{row['model']} {row['gpu']} {row['tensor_parallel']}: {size['size']} tokens, "
        f"{100 * size['error']:.1f} %"
        for row in rows
        for size in row["prompt"]["sizes"]
        if size["extrapolated"]
    ]
    return ["prompts left out at an end, where the fit goes on beyond what it knows:", *beyond]


def _row(profile: Profile) -> dict[str, Any]:
    prompt, token = profile.fits()
    model, gpu, tensor_parallel = profile.key
    decode = profile.decode
    return {
        "model": model,
        "gpu": gpu,
        "tensor_parallel": tensor_parallel,
        "prompt": _fit(prompt)
        | {"line_s": profile.prompt.line, "sizes_measured": profile.prompt.sizes},
        "token": _fit(token)
        | {
            "step_s": decode.step_s,
            "sequence_s": decode.sequence_s,
            "token_s": decode.token_s,
            "most_sequences": decode.most_sequences,
            "most_context": decode.most_context,
        },
        "left_out": list(profile.left_out),
    }


def _fit(fit: Fit) -> dict[str, Any]:
    return {
        "points": fit.points,
        "error": fit.own,
        "error_held_out": fit.held_out,
        "error_size_left_out": fit.left_out,
        "sizes": [
            {"size": size.size, "error": size.error, "extrapolated": size.extrapolated}
            for size in fit.sizes
        ],
    }


ERRORS = ("error", "error_held_out", "error_size_left_out")


def _means(rows: Sequence[dict[str, Any]], phase: str) -> dict[str, float | None]:
    """Over all profiles; None where one of them could leave out nothing."""
    means: dict[str, float | None] = {}
    for name in ERRORS:
        values = [row[phase][name] for row in rows]
        means[name] = None if None in values else fmean(values)
    return means


def _cells(errors: dict[str, Any]) -> str:
    return "".join(
        f"{'-':>9}" if errors[name] is None else f"{100 * errors[name]:>9.2f}" for name in ERRORS
    )
