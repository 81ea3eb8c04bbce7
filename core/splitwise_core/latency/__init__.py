"""How long each phase takes, what a transfer costs and what a GPU draws, fitted to measured points.

Measured points come in, models that answer for any batch go out, with how wrong they are where a
size was left out. The planner simulates by them; nothing here reads a file or a clock.
"""

from splitwise_core.latency.decode import DecodeModel, DecodePoint, fit_decode
from splitwise_core.latency.fit_report import Fit, Fitting, LeftOut, report_of
from splitwise_core.latency.power import PowerModel, prompt_slowdown
from splitwise_core.latency.prompt import PromptModel, PromptPoint, fit_prompt
from splitwise_core.latency.transfer import TransferModel, TransferPoint, fit_transfer

__all__ = [
    "DecodeModel",
    "DecodePoint",
    "Fit",
    "Fitting",
    "LeftOut",
    "PowerModel",
    "PromptModel",
    "PromptPoint",
    "TransferModel",
    "TransferPoint",
    "fit_decode",
    "fit_prompt",
    "fit_transfer",
    "prompt_slowdown",
    "report_of",
]
