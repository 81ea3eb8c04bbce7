"""Phase times out of benchmark files: those of `splitwise bench`, of vLLM and of SGLang.

Each record of a file becomes a shape of `phase_times`, with what the record leaves open left out
and said. Known are the reports of `splitwise bench --json`; of `vllm bench serve --save-result` and
of SGLang's `bench_serving`, which have the same fields; and of SGLang's `bench_one_batch`, which
measures the phases by themselves.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

from splitwise_core.errors import UserError
from splitwise_planner.phase_times import COLUMNS, Key, Shape

MAX_BYTES: Final = 256 << 20

ALONE: Final = 1.05
"""Mean requests under way up to which each has the server for itself."""

HARDLY_WAITS: Final = 0.1
"""Share of its own time that a prompt may have waited and still count as measured alone."""


@dataclass(frozen=True, slots=True)
class Found:
    """A shape, and what of its record could not be used."""

    shape: Shape
    where: str
    remark: str = ""


def read_benchmarks(path: Path, token_workers: int = 1) -> list[Found]:
    """The shapes in a file of one JSON document, or of one a line.

    `token_workers` is how many decoded side by side what a serving benchmark saw as one server.
    Raises UserError (invalid-benchmark) naming the record and field.
    """
    return [_shape(record, where, token_workers) for where, record in _records(path, _text(path))]


def phase_times_csv(key: Key, found: list[Found]) -> str:
    """The file that `--phase-times` reads, with where each row is from."""
    model, gpu, tensor_parallel = key
    lines = [f"# {one.where}{': ' + one.remark if one.remark else ''}" for one in found]
    lines.append(",".join(COLUMNS))
    for one in found:
        shape = one.shape
        counts = (tensor_parallel, shape.prompt_tokens, shape.sequences, shape.output_tokens)
        times = (" ".join(map(repr, values)) for values in (shape.prompt_ms, shape.token_ms))
        lines.append(",".join([model, gpu, *map(str, counts), *times]))
    return "\n".join(lines) + "\n"


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(str(path), f"is larger than {MAX_BYTES} bytes", "leave out the details")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(str(path), f"cannot be read: {error}", "give a JSON file") from error


def _records(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each record with where it stands."""
    try:
        documents = [(str(path), json.loads(text))]
    except (ValueError, RecursionError):
        documents = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                documents.append((where, json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise _refused(where, f"is not JSON ({error})", "one object a line") from error
    if not documents:
        raise _refused(str(path), "holds no records", "give what a benchmark wrote")
    for where, document in documents:
        if not isinstance(document, dict):
            raise _refused(where, "is not an object", "give what a benchmark wrote")
        yield where, document


def _shape(record: Mapping[str, Any], where: str, token_workers: int) -> Found:
    if "prefill_latency" in record:
        return _one_batch(record, where)
    if "stages_s" in record:
        return _ours(record, where, token_workers)
    if "total_input_tokens" in record:
        return _serving(record, where, token_workers)
    raise _refused(
        where,
        "is of no benchmark that is known",
        "give a report of splitwise bench --json, vllm bench serve --save-result, or SGLang's "
        "bench_serving or bench_one_batch",
    )


def _one_batch(record: Mapping[str, Any], where: str) -> Found:
    """SGLang's measurement of one batch: each phase by itself, in seconds."""
    step = next((n for n in ("median_decode_latency", "avg_decode_latency") if n in record), None)
    output = _count(record, "output_len", where)
    token_ms = () if step is None else (1000 * _above_zero(record, step, where),)
    shape = Shape(
        _count(record, "input_len", where),
        _count(record, "batch_size", where),
        output,
        (1000 * _above_zero(record, "prefill_latency", where),),
        token_ms,
    )
    return Found(shape, where, "" if token_ms else "no step of decoding was measured")


def _serving(record: Mapping[str, Any], where: str, token_workers: int) -> Found:
    """A serving benchmark of vLLM or SGLang: milliseconds, with whoever else was served beside.

    A time between tokens is the median one, as steps that computed prompts too are fewer; a time to
    the first token says how long a prompt takes only where no other was under way.
    """
    done = _above_zero(record, "completed", where)
    prompt = _above_zero(record, "total_input_tokens", where) / done
    output = _above_zero(record, "total_output_tokens", where) / done
    step = next((n for n in ("median_itl_ms", "median_tpot_ms") if n in record), "median_itl_ms")
    step_ms = _above_zero(record, step, where)
    mean_step = "mean_tpot_ms" if "mean_tpot_ms" in record else step
    mean_ms = _above_zero(record, mean_step, where)
    ttft_ms = _above_zero(record, "median_ttft_ms", where)
    per_s = done / _above_zero(record, "duration", where)
    decoding = per_s * mean_ms * max(output - 1, 1) / 1000
    under_way = decoding + per_s * ttft_ms / 1000
    alone = under_way <= ALONE
    remark = "" if alone else f"{under_way:.1f} requests were under way: prompts waited, left out"
    sequences = max(1, round(decoding / token_workers))
    prompt_ms = (ttft_ms,) if alone else ()
    shape = Shape(round(prompt), sequences, max(1, round(output)), prompt_ms, (step_ms,))
    return Found(shape, where, remark)


def _ours(record: Mapping[str, Any], where: str, token_workers: int) -> Found:
    """A report of `splitwise bench`: seconds, the prompt's as its worker measured it."""
    per_s = _above_zero(record, "requests_per_s", where)
    prompt = _above_zero(record, "prompt_tokens_per_s", where) / per_s
    output = _above_zero(record, "output_tokens_per_s", where) / per_s
    stages = _part(record, "stages_s", where)
    prefill_s = _above_zero(_part(stages, "prefill", where), "p50", f"{where}: stages_s.prefill")
    queue_s = _part(stages, "queue", where).get("p50") or 0.0
    step_s = _above_zero(_part(record, "tbt_s", where), "p50", f"{where}: tbt_s")
    e2e_s = _above_zero(_part(record, "e2e_s", where), "mean", f"{where}: e2e_s")
    ttft_s = _above_zero(_part(record, "ttft_s", where), "mean", f"{where}: ttft_s")
    sequences = max(1, round(per_s * max(e2e_s - ttft_s, 0.0) / token_workers))
    waited = queue_s > HARDLY_WAITS * prefill_s
    remark = f"prompts waited {queue_s:.3f} s: left out" if waited else ""
    prompt_ms = () if waited else (1000 * prefill_s,)
    shape = Shape(round(prompt), sequences, max(1, round(output)), prompt_ms, (1000 * step_s,))
    return Found(shape, where, remark)


def _part(record: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    part = record.get(name)
    if not isinstance(part, dict):
        raise _refused(f"{where}: {name}", "is missing", "give the report as it was written")
    return part


def _above_zero(record: Mapping[str, Any], name: str, where: str) -> float:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(f"{where}: {name}", f"is {value!r}", "give the report as it was written")
    if not value > 0 or not isfinite(value):
        raise _refused(f"{where}: {name}", f"is {value!r}", "measure with requests that succeed")
    return float(value)


def _count(record: Mapping[str, Any], name: str, where: str) -> int:
    value = _above_zero(record, name, where)
    if value != int(value):
        raise _refused(f"{where}: {name}", f"is {value!r}", "give a whole number")
    return int(value)


def _refused(where: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-benchmark", where=where, wrong=wrong, fix=fix)
