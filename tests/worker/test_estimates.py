"""What follows from a worker's steps: operations, bytes, energy and money."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from splitwise_core.latency.power import PowerModel
from splitwise_core.metric import Component
from splitwise_core.policy.batching import StepKind
from splitwise_core.telemetry import Telemetry
from splitwise_worker.config import parse
from splitwise_worker.estimates import Estimates
from splitwise_worker.load_meter import Stepped
from splitwise_worker.machine import Machine
from splitwise_worker.model.config import ModelConfig
from splitwise_worker.model_work import ModelWork
from splitwise_worker.nvml import energy_counter

POOL = {"role": "token", "pool": "p"}
LLAMA_8B = ModelConfig(
    architecture="LlamaForCausalLM",
    num_layers=32,
    width=4096,
    num_heads=32,
    kv_heads=8,
    head_dim=128,
    mlp_width=14336,
    vocab_size=128256,
    norm_eps=1e-5,
    rope_theta=5e5,
    rope_scaling=None,
    max_positions=8192,
    qkv_bias=False,
    qk_norm=False,
    tied_embeddings=False,
    sliding_window=None,
    eos_token_ids=(),
)
KV_TOKEN = 2 * 32 * 8 * 128 * 2  # keys and values of 32 layers, 8 heads of 128, in bfloat16


def test_a_decoded_token_reads_all_weights_and_costs_two_operations_for_each() -> None:
    flop, read = ModelWork.of(LLAMA_8B, 2, KV_TOKEN).step([1], [1])
    weights = 8_030_261_248 - 128256 * 4096 - 65 * 4096  # without embeddings and norms
    assert read == 2 * weights + KV_TOKEN
    assert flop == pytest.approx(2 * weights, rel=1e-4)


def test_weights_are_read_once_for_all_sequences_of_a_step_and_kv_for_each() -> None:
    work = ModelWork.of(LLAMA_8B, 2, KV_TOKEN)
    _, one = work.step([1], [1000])
    flop, eight = work.step([1] * 8, [1000] * 8)
    assert eight - one == 7 * 1000 * KV_TOKEN
    assert flop == 8 * work.step([1], [1000])[0]


def test_a_prompt_in_chunks_costs_what_it_costs_in_one_but_for_the_head() -> None:
    work = ModelWork.of(LLAMA_8B, 2, KV_TOKEN)
    whole, _ = work.step([1024], [1024])
    halves = work.step([512], [512])[0] + work.step([512], [1024])[0]
    assert halves - whole == pytest.approx(work.head_flop)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 300)), min_size=1, max_size=5))
def test_a_token_attends_to_itself_and_to_all_before_it(parts: list[tuple[int, int]]) -> None:
    work = ModelWork.of(LLAMA_8B, 2, KV_TOKEN)
    tokens, contexts = [new for _, new in parts], [before + new for before, new in parts]
    attended = sum(seen for before, new in parts for seen in range(before + 1, before + new + 1))
    flop, _ = work.step(tokens, contexts)
    rest = sum(tokens) * work.flop_per_token + len(parts) * work.head_flop
    assert flop - rest == attended * work.attention_flop


def test_no_token_attends_to_more_than_the_window() -> None:
    work = ModelWork.of(replace(LLAMA_8B, sliding_window=128), 2, KV_TOKEN)
    near, far = work.step([1], [128]), work.step([1], [1000])
    assert far[0] == near[0]
    assert far[1] == near[1] + KV_TOKEN  # the new one's, beside those of the window


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """A sample after a whole scrape, which is when what grows by itself is reckoned."""
    found = [
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == f"splitwise_worker_{name}" and sample.labels == POOL | labels
    ]
    return found[0] if found else None


def estimates(machine: Machine) -> tuple[Telemetry, Estimates, list[float]]:
    clock = [100.0]
    telemetry = Telemetry(Component.WORKER, **POOL)
    made = Estimates(telemetry, ModelWork.of(LLAMA_8B, 2, KV_TOKEN), machine, lambda: clock[0])
    return telemetry, made, clock


def test_what_nobody_tells_has_no_series() -> None:
    telemetry, made, _ = estimates(Machine())
    made.stepped(Stepped(StepKind.TOKEN, decoded=1, token_s=0.1), [1], [2])
    names = {s.name for family in telemetry.registry.collect() for s in family.samples}
    assert "splitwise_worker_model_flops_total" in names
    told = ("peak_flops_per_second", "peak_bytes_per_second", "energy_joules_total")
    assert not names & {f"splitwise_worker_{name}" for name in (*told, "cost_dollars_total")}


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(0, 60))
def test_every_step_is_counted_by_the_next_scrape(steps: list[int], scraped_after: int) -> None:
    telemetry, made, _ = estimates(Machine())
    work = ModelWork.of(LLAMA_8B, 2, KV_TOKEN)
    counted = 0.0
    for number, count in enumerate(steps):
        tokens, contexts = [1] * count, [100 + number] * count
        made.stepped(Stepped(StepKind.TOKEN, decoded=count), tokens, contexts)
        counted += work.step(tokens, contexts)[0]
        if number == scraped_after:
            value(telemetry.registry, "model_flops_total", kind="token")
    assert value(telemetry.registry, "model_flops_total", kind="token") == pytest.approx(counted)


def test_energy_and_money_grow_by_the_pools_figures_and_say_that_they_are_estimates() -> None:
    telemetry, made, clock = estimates(Machine(36.0, PowerModel(100, 700, 400)))
    made.stepped(Stepped(StepKind.PROMPT, prompt_tokens=8, prompt_s=1.5), [8], [8])
    made.stepped(Stepped(StepKind.TOKEN, decoded=1, token_s=2.0), [1], [9])
    both = Stepped(StepKind.MIXED, prompt_tokens=8, decoded=1, prompt_s=0.5, token_s=1.0)
    made.stepped(both, [8, 1], [8, 10])
    clock[0] += 10
    for _ in range(2):  # a second look adds nothing
        joules = value(telemetry.registry, "energy_joules_total", source="machine")
        assert joules == pytest.approx(2 * 700 + 3 * 400 + 5 * 100)
    assert value(telemetry.registry, "cost_dollars_total") == pytest.approx(0.1)


def test_a_gpu_that_tells_its_energy_is_believed_rather_than_the_figures(tmp_path: Path) -> None:
    """The calls are those of nvml.h; the device behind them uses 5 J between two questions."""
    source, library = tmp_path / "nvml.c", tmp_path / "libnvml.so"
    source.write_text(
        """
        #include <string.h>
        static unsigned long long used = 1000000;
        int nvmlInit_v2(void) { return 0; }
        int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
            *device = &used;
            return strcmp(uuid, "GPU-1234") ? 6 : 0;
        }
        int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) {
            if (device != &used) return 2;
            *mj = used += 5000;
            return 0;
        }
        """
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    joules = energy_counter("GPU-1234", str(library))
    assert joules is not None
    assert energy_counter("GPU-other", str(library)) is None
    assert energy_counter("GPU-1234", str(tmp_path / "none.so")) is None
    telemetry, _, _ = estimates(Machine(power=PowerModel(1, 1, 1), joules=joules))
    assert value(telemetry.registry, "energy_joules_total", source="nvml") == 5
    assert value(telemetry.registry, "energy_joules_total", source="nvml") == 10
    assert value(telemetry.registry, "energy_joules_total", source="machine") is None


def test_watts_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    needed = [
        *("--worker-id=w", "--pool=p", "--role=token", "--model=.", "--model-name=m"),
        *("--kv-memory=1", "--listen=127.0.0.1:1", "--status=127.0.0.1:2"),
        *("--sidecar-socket=s", "--sidecar-address=127.0.0.1:3"),
    ]
    watts = ["--idle-watts=63", "--prompt-watts=400"]
    with pytest.raises(SystemExit):
        parse([*needed, *watts])
    assert "go together" in capsys.readouterr().err
    assert parse([*needed, *watts, "--token-watts=250"]).power == PowerModel(63, 400, 250)
