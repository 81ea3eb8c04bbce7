"""Options of `splitwise simulate` and `splitwise plan`: their names, units and help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Trace = Annotated[
    Path,
    typer.Option(
        help="Requests: the columns arrival_timestamp, prompt_size and token_size, an Azure LLM "
        "inference trace, or Mooncake's JSON lines."
    ),
]
Model = Annotated[str, typer.Option(help="A model of the catalogue, such as bloom-176b.")]
Design = Annotated[
    str,
    typer.Option(
        help="Machines for prompts and tokens, as in HH-35P-5T or HA-35P-8T; BH-40P_T: each does "
        "both. A: DGX-A100, H: DGX-H100, Hcap: with capped power."
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="A CSV with the times of each request, in order of end.")
]
Designs = Annotated[
    str,
    typer.Option(
        help="With --rate kinds to size, as in AA,HH,HA,HHcap,BA,BH; without, whole clusters, as "
        "in HH-35P-5T, whose highest rate is looked for."
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(metavar="NUMBER", help="Requests per second, drawn with the trace's sizes."),
]
Objective = Annotated[
    Literal["cost", "power", "machines"], typer.Option(help="What is to be least.")
]
MaxCost = Annotated[float | None, typer.Option(metavar="NUMBER", help="Dollars an hour, at most.")]
MaxPower = Annotated[
    float | None, typer.Option(metavar="NUMBER", help="Power in the catalogue's unit, at most.")
]
MaxMachines = Annotated[int | None, typer.Option(help="Machines, at most.")]
Day = Annotated[
    Path | None,
    typer.Option(
        help="Size the winner for each hour of a day, too: a CSV with the columns hour and rate "
        "(requests a second) or hour and share (times --rate), or a trace of a day."
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of the hours of --day, as Europe/Berlin. [default: UTC]"),
]
Seeds = Annotated[int, typer.Option(help="Draws on each of which a plan must keep all objectives.")]
Duration = Annotated[float, typer.Option(help="How long requests arrive.")]
Mode = Annotated[
    Literal["compat", "measured"],
    typer.Option(
        help="compat: the rules of the simulator released with the paper, exactly. measured: the "
        "policies that run in production, on measured phase times."
    ),
]
PowerCaps = Annotated[
    str | None,
    typer.Option(
        help="Size each kind for these caps too: percent of the power of a token machine's GPUs, "
        "as in 100,70,50."
    ),
]
TensorParallel = Annotated[
    str | None,
    typer.Option(help="Size each kind for workers of so many GPUs, as in 8,4. Measured mode."),
]
Headroom = Annotated[
    float,
    typer.Option(metavar="NUMBER", help="Serve this many times the rate: room for bursts."),
]
Spare = Annotated[
    int, typer.Option(help="Machines of each phase that may be gone meanwhile; 1 is N+1.")
]
Frontier = Annotated[
    bool,
    typer.Option(
        "--frontier",
        help="Look for the least cost, power and machines, and list what none beats in all three.",
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(help="A file of what was simulated: a search that was broken off goes on."),
]
Report = Annotated[
    Path | None,
    typer.Option(
        help="A report to keep: one HTML file with its pictures where it ends in .html, else "
        "Markdown."
    ),
]
ClusterOut = Annotated[
    Path | None, typer.Option(help="The winner as a SplitwiseCluster, ready to apply.")
]
ModelPath = Annotated[
    str | None, typer.Option(help="Where the model is, for --cluster; an absolute path.")
]
Mtbf = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="Machines fail at random, each once in so many hours on average. Measured mode.",
    ),
]
Repair = Annotated[
    float, typer.Option(metavar="MINUTES", help="How long a machine that has failed is gone.")
]
LinkMtbf = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="Links between prompt and token machines break at random, each once in so many hours "
        "on average. Measured mode.",
    ),
]
LinkRepair = Annotated[
    float, typer.Option(metavar="MINUTES", help="How long a link that has broken is gone.")
]
Autoscale = Annotated[
    str | None,
    typer.Option(
        metavar="LEAST",
        help="Pools grow and shrink by the operator's law, between these machines, such as 2P-1T "
        "or 2P_T, and the design's. Measured mode.",
    ),
]
Start = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="How long a machine that is added takes to serve."),
]
Borrowing = Annotated[
    bool,
    typer.Option(
        "--borrowing/--no-borrowing",
        help="Whether pools that are crowded borrow workers of each other, as scheduling.borrowing "
        "of a cluster. Measured mode.",
    ),
]
PrefixCaching = Annotated[
    bool,
    typer.Option(
        "--prefix-caching/--no-prefix-caching",
        help="Whether prompts whose hash_ids begin alike share the KV of their beginning, as "
        "scheduling.prefixCaching of a cluster. Measured mode.",
    ),
]
Disaggregation = Annotated[
    Literal["Always", "Auto", "Never"],
    typer.Option(
        help="Whether the two phases of a request go to two workers, as scheduling.disaggregation "
        "of a cluster. Measured mode."
    ),
]
FaultSeed = Annotated[int, typer.Option("--seed", help="Same seed, same failures.")]
Catalog = Annotated[
    Path | None, typer.Option(help="Machines, prices and models, instead of those that come along.")
]
PhaseTimes = Annotated[
    Path | None, typer.Option(help="Measured phase times, instead of those that come along.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

Benchmark = Annotated[
    list[Path] | None,
    typer.Option(
        help="A report of splitwise bench --json, of vllm bench serve --save-result, or of "
        "SGLang's bench_serving or bench_one_batch; may be given several times."
    ),
]
MeasuredModel = Annotated[
    str | None, typer.Option("--model", help="The model that was measured, for --benchmark.")
]
Gpu = Annotated[str | None, typer.Option(help="The GPU that was measured, for --benchmark.")]
MeasuredTensorParallel = Annotated[
    int, typer.Option("--tensor-parallel", help="GPUs of one worker, for --benchmark.")
]
TokenWorkers = Annotated[
    int, typer.Option(help="Workers that decoded side by side, for --benchmark.")
]
TimesOut = Annotated[
    Path | None, typer.Option("--out", help="Where the phase times of --benchmark go.")
]
