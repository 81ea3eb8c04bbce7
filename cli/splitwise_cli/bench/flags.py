"""The options of `splitwise bench` as typer takes them: their types, units and help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Number = "NUMBER"

Url = Annotated[
    str | None, typer.Option(help="A router's address. Default: the running cluster's.")
]
TraceFile = Annotated[
    Path | None, typer.Option(help="CSV of arrivals and lengths; docs/bench.md has its form.")
]
Rate = Annotated[
    float | None,
    typer.Option(metavar=Number, help="Requests a second on average, instead of a trace."),
]
Requests = Annotated[int | None, typer.Option(help="How many requests, at most.")]
Duration = Annotated[
    float | None, typer.Option(help="No request is sent after so long; answers still come.")
]
PromptTokens = Annotated[int | None, typer.Option(help="Length of each prompt, with --rate.")]
OutputTokens = Annotated[int | None, typer.Option(help="Length of each answer, with --rate.")]
Arrivals = Annotated[
    Literal["poisson", "constant"] | None,
    typer.Option(help="How they are spread, with --rate: at random (poisson), or evenly."),
]
Burst = Annotated[int | None, typer.Option(help="So many arrive at once each time, with --rate.")]
TimeScale = Annotated[
    float, typer.Option(metavar=Number, help="Times between arrivals are multiplied by it.")
]
LengthScale = Annotated[
    float, typer.Option(metavar=Number, help="Lengths in tokens are multiplied by it.")
]
Seed = Annotated[int, typer.Option(help="Same seed, same arrivals and prompts.")]
Timeout = Annotated[float, typer.Option(help="An answer that has not ended by then is lost.")]
SloTtft = Annotated[
    float | None, typer.Option(help="Time to first token of a good answer, at most.")
]
SloTbt = Annotated[
    float | None, typer.Option(help="Mean time between tokens of a good answer, at most.")
]
SloE2e = Annotated[float | None, typer.Option(help="Whole time of a good answer, at most.")]
SloRun = Annotated[
    list[str] | None,
    typer.Option(
        "--slo",
        metavar="NAME=LIMIT",
        help="What the whole run must keep to, such as ttft_p99=1s, tbt_p90=50ms or goodput=99%; "
        "may be given more than once.",
    ),
]
CheckAnswers = Annotated[
    Literal["auto", "check", "ignore"],
    typer.Option(help="Compare answers with what the tiny model must say; auto: if it is it."),
]
Model = Annotated[
    str | None, typer.Option(help="The model to ask for. Default: the one that is served.")
]
Json = Annotated[
    Path | None, typer.Option(help="Write the report to this file too, as one object.")
]
Html = Annotated[
    Path | None, typer.Option(help="Write the report to this file as a page with plots.")
]
Rows = Annotated[
    Path | None,
    typer.Option(
        help="A CSV with the times of each right answer, as of `splitwise simulate --out`."
    ),
]
State = Annotated[
    Path | None, typer.Option(help="Directory of the running cluster that is asked without --url.")
]
TableOrJson = Annotated[
    Literal["table", "json"], typer.Option("--output", "-o", help="For people, or for scripts.")
]
PromptSizes = Annotated[str, typer.Option("--prompt-tokens", help="Prompt sizes to measure.")]
UnderWay = Annotated[
    str, typer.Option(help="So many requests at a time, beside one that is measured alone.")
]
ProfileOutput = Annotated[
    int, typer.Option("--output-tokens", help="Length of an answer, on average.")
]
Repeats = Annotated[
    int, typer.Option(help="Requests of each prompt size, for each number at a time.")
]
TokenWorkers = Annotated[int, typer.Option(help="Workers that decode side by side.")]
MeasuredModel = Annotated[
    str, typer.Option("--model", help="The model, as the planner's catalogue calls it.")
]
Gpu = Annotated[str, typer.Option(help="What computes, as the planner's catalogue calls it.")]
TensorParallel = Annotated[int, typer.Option(help="GPUs of one worker.")]
TimesOut = Annotated[
    Path, typer.Option("--out", help="Where the phase times go, for simulate --phase-times.")
]
First = Annotated[Path, typer.Argument(metavar="A.json", help="A report of --json.")]
Second = Annotated[Path, typer.Argument(metavar="B.json", help="The one that is compared to it.")]
