"""What a plan says of a day: as JSON for scripts, as a table for people, and as a page's part."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any, Final

from splitwise_planner.charts import Line, chart
from splitwise_planner.day import HOURS
from splitwise_planner.design import cluster_as_dict
from splitwise_planner.document import Part
from splitwise_planner.hours import PHASES, DayPlan, Hour, Phase
from splitwise_planner.schedule import DAY_MIN, HOUR_MIN, Schedule, clock

FOUR_HOURLY: Final = range(0, HOURS + 1, 4)

TEXT_WIDTH: Final = 96

NOTE: Final = (
    "Scheduled: the least machines at all times, and no more. The autoscaler adds what the load "
    "asks for beyond them, and lets a pool shrink over some minutes."
)


def day_as_dict(plan: DayPlan) -> dict[str, Any]:
    """Hours, pools, schedules, and what they cost; times of day are in the day's time zone."""
    return {
        "name": plan.day.name,
        "time_zone": plan.day.time_zone,
        "own_sizes": bool(plan.day.sizes),
        "hours": [_hour(number, hour) for number, hour in enumerate(plan.hours)],
        "pools": {phase: _pool(plan.schedule(phase)) for phase in _phases(plan)},
        "machine_hours": {
            "at_peak": HOURS * plan.most.machines,
            "scheduled": round(sum(plan.machine_hours.values()), 2),
        },
        "dollars": {
            "at_peak": round(plan.dollars_at_peak, 2),
            "scheduled": round(plan.dollars, 2),
            "saved_share": round(plan.saved_share, 4),
        },
        "simulations": plan.simulations,
    }


def day_as_text(plan: DayPlan) -> str:
    """A row for each hour, each pool's schedule, and what that saves."""
    lines = [
        _head(plan),
        "",
        f"{'hour':<7}{'requests/s':>10}  {'design':<18}{'machines':>9}{'$/h':>11}  "
        f"{'binding':<10}{'load':>6}",
    ]
    for at, rate, design, machines, price, binding, load in _rows(plan):
        lines.append(
            f"{at:<7}{rate:>10}  {design:<18}{machines:>9}{price:>11}  {binding:<10}{load:>6}"
        )
    lines.append("")
    for phase in _phases(plan):
        told = f"{_pool_name(plan, phase)} pool: {_told(plan.schedule(phase))}"
        lines += wrap(told, TEXT_WIDTH, subsequent_indent="  ")
    lines += [f"{name}: {hours} machine-hours, ${price}" for name, hours, price in _costs(plan)]
    lines += [f"saved: {plan.saved_share:.1%}; {plan.simulations} simulations more", NOTE]
    return "\n".join([*lines, ""])


def day_parts(plan: DayPlan) -> list[Part]:
    """The same with a picture of each pool's machines."""
    return [
        f"# {_head(plan)}",
        chart(
            "Least machines of each pool",
            "hour",
            "machines",
            [
                Line(f"{_pool_name(plan, phase)} pool", _steps(plan.schedule(phase)))
                for phase in _phases(plan)
            ],
            FOUR_HOURLY,
        ),
        [["pool", "from", "to", "machines at least"], *_periods(plan)],
        [["a day", "machine-hours", "$"], *_costs(plan)],
        f"Saved: {plan.saved_share:.1%}. {NOTE}",
        [["hour", "requests/s", "design", "machines", "$/h", "binding", "load"], *_rows(plan)],
    ]


def _head(plan: DayPlan) -> str:
    """Which day it is, and where its requests have their sizes from."""
    own = ", each with the sizes of its own requests" if plan.day.sizes else ""
    return f"{plan.day.name}, hours in {plan.day.time_zone}{own}"


def _told(schedule: Schedule) -> str:
    """A schedule in words."""
    if schedule.least == schedule.most:
        return f"{schedule.least} machines all day"
    periods = ", ".join(
        f"{one.machines} from {clock(one.begins_min)} to {clock(one.ends_min)}"
        for one in schedule.periods
    )
    return f"{schedule.least} to {schedule.most} machines; at least {periods}"


def _periods(plan: DayPlan) -> list[list[str]]:
    """A row for the least of each pool at any time, and for each period with more."""
    rows = []
    for phase in _phases(plan):
        schedule, name = plan.schedule(phase), _pool_name(plan, phase)
        rows.append([f"{name}, {schedule.most} at most", "any time", "", str(schedule.least)])
        rows += [
            [name, clock(one.begins_min), clock(one.ends_min), str(one.machines)]
            for one in schedule.periods
        ]
    return rows


def _phases(plan: DayPlan) -> Sequence[Phase]:
    """Those that have machines of their own."""
    return PHASES if plan.most.splits else PHASES[:1]


def _pool_name(plan: DayPlan, phase: Phase) -> str:
    return phase if plan.most.splits else "mixed"


def _costs(plan: DayPlan) -> list[list[str]]:
    """Machine-hours and dollars of a day, as if it were the peak all day, and as scheduled."""
    scheduled = sum(plan.machine_hours.values())
    return [
        [
            f"{plan.most} all day",
            f"{HOURS * plan.most.machines:.1f}",
            f"{plan.dollars_at_peak:.2f}",
        ],
        ["scheduled", f"{scheduled:.1f}", f"{plan.dollars:.2f}"],
    ]


def _rows(plan: DayPlan) -> list[list[str]]:
    """What stands in the table of each hour."""
    return [
        [
            clock(number * HOUR_MIN),
            f"{hour.rate:.4g}",
            str(hour.design),
            str(hour.design.machines),
            f"{hour.design.dollars_per_hour:.2f}",
            *_nearest(hour),
        ]
        for number, hour in enumerate(plan.hours)
    ]


def _nearest(hour: Hour) -> tuple[str, str]:
    """The binding objective and its load; nothing where nobody asks."""
    if not hour.trial.verdicts:
        return "–", "–"
    return hour.trial.worst.binding, f"{hour.trial.worst.load:.2f}"


def _steps(schedule: Schedule) -> list[tuple[float, float]]:
    """The least machines over the hours of a day, as a line of steps."""
    points = [(0.0, float(schedule.at(0)))]
    for minute in range(1, DAY_MIN):
        machines = float(schedule.at(minute))
        if machines != points[-1][1]:
            hour = minute / HOUR_MIN
            points += [(hour, points[-1][1]), (hour, machines)]
    return [*points, (float(HOURS), points[-1][1])]


def _hour(number: int, hour: Hour) -> dict[str, Any]:
    worst = hour.trial.worst if hour.trial.verdicts else None
    return {
        "hour": number,
        "rate": hour.rate,
        **cluster_as_dict(hour.design),
        "binding": worst.binding if worst is not None else None,
        "load": worst.load if worst is not None else None,
        "failures": hour.trial.failures,
    }


def _pool(schedule: Schedule) -> dict[str, Any]:
    return {
        "least": schedule.least,
        "most": schedule.most,
        "machine_hours": round(schedule.machine_hours, 2),
        "schedule": [
            {
                "begins": clock(one.begins_min),
                "ends": clock(one.ends_min),
                "machines": one.machines,
            }
            for one in schedule.periods
        ],
    }
