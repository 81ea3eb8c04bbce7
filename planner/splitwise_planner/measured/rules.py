"""What a worker of a design is: its models, its memory, its link."""

from dataclasses import dataclass
from typing import Final

from splitwise_core.errors import UserError
from splitwise_core.latency import DecodeModel, PowerModel, PromptModel
from splitwise_core.policy.handover import layerwise_min_tokens
from splitwise_core.policy.link import Link
from splitwise_core.policy.mixing import Mixing
from splitwise_planner.catalog import Machine, Model
from splitwise_planner.design import Design
from splitwise_planner.phase_times import Key, Shape
from splitwise_planner.profile import Profile, profile_of

BLOCK_TOKENS: Final = 32
"""Tokens of a KV block, as workers have them."""

MAX_SEQUENCES: Final = 64
"""Sequences that a worker holds at a time: the spec's own default, and as many as were measured."""

KV_SHARE: Final = 0.9
"""Of a GPU's memory, what weights and KV may take: the rest is for activations and CUDA graphs.
vLLM's gpu_memory_utilization has the same default."""

BORROWING: Final = Mixing(borrowing=True)
"""As the spec has it where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One worker: some GPUs of a machine, with their part of its memory and network.

    `layerwise_min` tokens of a prompt are pushed layer by layer, each layer costing the prompt
    `layer_push_s`. `request_s` is what a request takes beside its phases, at the router and on the
    way. `power` is that of all its GPUs; None where the catalogue has none.
    """

    prompt: PromptModel
    decode: DecodeModel
    prompt_slowdown: float
    blocks: int
    link: Link
    layer_push_s: float
    layerwise_min: float
    request_s: float
    power: PowerModel | None


@dataclass(frozen=True, slots=True)
class Rules:
    """A model on a design's machines. `workers` is how many there are on a machine; `mixing` says
    whether they may serve the other pool's phase."""

    model: Model
    prompt: Hardware
    token: Hardware
    workers: int
    left_out: tuple[str, ...]
    mixing: Mixing = BORROWING


def rules_for(times: dict[Key, list[Shape]], name: str, model: Model, design: Design) -> Rules:
    """The rules for a design. Raises UserError (invalid-phase-times) for what was not measured,
    (invalid-catalog) for what the catalogue does not tell of a machine, and (invalid-design) where
    the model does not fit."""
    degree = design.tensor_parallel or model.tensor_parallel
    gpus = design.prompt_machine.gpus
    for machine in (design.prompt_machine, design.token_machine):
        if machine.gpus % degree or machine.gpus != gpus:
            raise UserError(
                "invalid-design",
                where=str(design),
                wrong=f"{machine.gpus} GPUs of a machine {machine.letter} do not make workers of "
                f"{degree}, equally many on each machine",
                fix="use a tensor-parallel degree that divides the GPUs of both",
            )
    profiles = [
        profile_of(times, name, machine.gpu, degree)
        for machine in (design.prompt_machine, design.token_machine)
    ]
    prompt, token = (
        _hardware(profile, machine, model, degree, f"{name} on {design}")
        for profile, machine in zip(
            profiles, (design.prompt_machine, design.token_machine), strict=True
        )
    )
    left_out = dict.fromkeys(
        f"{profile.key[1]}: {why}" for profile in profiles for why in profile.left_out
    )
    return Rules(model, prompt, token, gpus // degree, tuple(left_out))


def _hardware(
    profile: Profile, machine: Machine, model: Model, degree: int, where: str
) -> Hardware:
    """A worker of `degree` GPUs of a machine."""
    network, layer_push_s = machine.network_bytes_per_s, machine.layer_push_s
    if network is None or layer_push_s is None:
        raise UserError(
            "invalid-catalog",
            where=f"machine {machine.letter}",
            wrong="has no network_bytes_per_s and layer_push_s",
            fix="add both; the shipped catalogue shows how",
        )
    memory = KV_SHARE * degree * machine.gpu_memory_bytes - model.weight_bytes
    blocks = int(memory // (BLOCK_TOKENS * model.kv_bytes_per_token))
    if blocks < 1:
        raise UserError(
            "invalid-design",
            where=where,
            wrong=f"{degree} GPUs of a machine {machine.letter} are too small for the weights",
            fix="use more of them, or larger ones",
        )
    bytes_per_s = network * degree / machine.gpus
    minimum = layerwise_min_tokens(
        model.layers, model.kv_bytes_per_token, bytes_per_s, layer_push_s
    )
    watts = machine.idle_watts, machine.prompt_watts, machine.token_watts
    idle_w, prompt_w, token_w = (None if w is None else degree * w for w in watts)
    power = None
    if idle_w is not None and prompt_w is not None and token_w is not None:
        power = PowerModel(idle_w, prompt_w, token_w)
    return Hardware(
        prompt=profile.prompt,
        decode=profile.decode,
        prompt_slowdown=machine.prompt_slowdown,
        blocks=blocks,
        link=Link(machine.transfer_latency_s or 0.0, bytes_per_s, failing=False),
        layer_push_s=layer_push_s,
        layerwise_min=minimum,
        request_s=machine.request_s or 0.0,
        power=power,
    )


def blocks_for(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)
