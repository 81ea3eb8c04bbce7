"""Files and names that the planner is given: what it understands, and what it says of mistakes."""

import gzip
import json
from pathlib import Path

import pytest
import yaml

from splitwise_core.errors import UserError
from splitwise_planner.catalog import SHIPPED, load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.phase_times import PUBLISHED, load_phase_times, shapes_of
from splitwise_planner.trace import load_trace

SIMULATOR = (
    "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
)
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def answer(created: int, prompt: int, output: int) -> str:
    """A line with an answer of an OpenAI API."""
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    document = {"id": "c", "object": "chat.completion", "created": created, "usage": usage}
    return json.dumps(document) + "\n"


def batch_line(line: str) -> str:
    """The line of a batch's output that has an answer in it."""
    response = {"status_code": 200, "request_id": "r", "body": json.loads(line)}
    return json.dumps({"custom_id": "c", "response": response, "error": None}) + "\n"


def routed(arrived_unix_s: float, prompt: int, output: float) -> str:
    """A line of a router about a request."""
    sizes = {"prompt_tokens": prompt, "output_tokens": output, "arrived_unix_s": arrived_unix_s}
    return json.dumps({"component": "router", "message": "request", **sizes}) + "\n"


def ids(prompt: int, names: str) -> str:
    """A line of Mooncake's."""
    sizes = f'"input_length": {prompt}, "output_length": 5'
    return f'{{"timestamp": 0, {sizes}, "hash_ids": {names}}}\n'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SIMULATOR + "7,2,0,0.0,1,374,44\n9,2,0,4.5,1,396,109\n", id="simulator"),
        pytest.param(
            "prompt_size,token_size,arrival_timestamp\n374,44.0,0\n396,109,4.5\n", id="few"
        ),
        pytest.param(
            AZURE + "2023-11-16 18:15:46.5000000,374,44\n2023-11-16 18:15:51.0000000,396,109\n",
            id="azure 2023",
        ),
        pytest.param(
            AZURE + "2024-05-10 00:00:00.5+00:00,374,44\n2024-05-10 00:00:05+00:00,396,109\n",
            id="azure 2024",
        ),
        pytest.param(
            "arrival_s,prompt_tokens,output_tokens\n1,374,44\n5.5,396,109\n", id="splitwise bench"
        ),
        pytest.param(
            '{"timestamp": 0, "input_length": 374, "output_length": 44, "hash_ids": []}\n'
            '{"timestamp": 4500, "input_length": 396, "output_length": 109, "hash_ids": [1]}\n',
            id="mooncake",
        ),
        pytest.param(
            answer(1700000000, 374, 44) + answer(1700000004, 396, 109), id="answers of OpenAI's"
        ),
        pytest.param(
            batch_line(answer(1700000004, 396, 109))
            + '{"custom_id": "c", "response": null, "error": {"code": "expired"}}\n'
            + batch_line(answer(1700000000, 374, 44)),
            id="a batch of OpenAI's, by arrival, without what failed",
        ),
        pytest.param(
            '{"time": "t", "component": "router", "message": "serving", "listen": "a"}\n'
            + routed(1700000005.25, 396, 109)
            + routed(1700000005.5, 50, 0)
            + routed(1700000000.75, 374, 44),
            id="a router's log, by arrival, without what had no token",
        ),
    ],
)
def test_a_trace_is_known_by_its_columns(tmp_path: Path, text: str) -> None:
    plain, packed = tmp_path / "trace", tmp_path / "trace.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):
        trace = load_trace(path)
        assert trace.arrival_s == pytest.approx([0, 4 if "usage" in text else 4.5])
        assert trace.prompt_tokens.tolist() == [374, 396]
        assert trace.output_tokens.tolist() == [44, 109]


def test_a_trace_tells_which_prompts_begin_alike(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(ids(1100, "[4, 5, 6]") + ids(1100, "[4, 7]") + ids(300, "[]"))
    assert load_trace(path).prefix_ids == ((4, 5, 6), (4, 7), ())
    path.write_text(ids(300, "[]"))
    assert load_trace(path).prefix_ids == (), "none of its lines tells"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", ":1: has the columns of no trace", id="empty"),
        pytest.param(SIMULATOR, "holds no requests", id="no rows"),
        pytest.param("a,b\n1,2\n", ":1: has the columns a,b", id="other columns"),
        pytest.param(SIMULATOR + "0,2,0,1,1,5,6\n1,2,0,x,1,5,6\n", ":3: cannot", id="no number"),
        pytest.param(SIMULATOR + "0,2,0,1,1,5\n", ":2: has not as many values", id="short"),
        pytest.param(SIMULATOR + "0,2,0,1,1,0,6\n", ":2: has 0 prompt tokens", id="no prompt"),
        pytest.param(SIMULATOR + "0,2,0,1,1,5,0\n", ":2: has 0 output tokens", id="no output"),
        pytest.param(SIMULATOR + "0,2,0,1,1,5.5,1\n", "5.5 is not a whole number", id="half"),
        pytest.param(SIMULATOR + "0,2,0,-1,1,5,1\n", ":2: arrives at -1", id="before the start"),
        pytest.param(SIMULATOR + "0,2,0,nan,1,5,1\n", ":2: arrives at nan", id="never"),
        pytest.param(SIMULATOR + "0,2,0,1,1,inf,1\n", ":2: cannot be read", id="infinite"),
        pytest.param(SIMULATOR + "0,2,0,1,8,5,1\n", "batch_size is 8", id="batches"),
        pytest.param(SIMULATOR + "0,2,0,1,1,5,1\n" * 2, "request_id twice", id="ids twice"),
        pytest.param(AZURE + "yesterday,1,2\n", "line 2, TIMESTAMP: 'yesterday'", id="no stamp"),
        pytest.param(ids(600, "[7, 8]") + ids(600, "7"), ":2, hash_ids: is 7", id="an id alone"),
        pytest.param(ids(600, "[7, 8.5]"), ":1, hash_ids: is [7, 8.5]", id="half an id"),
        pytest.param(ids(600, "[7, -8]"), "numbers, 0 or above", id="an id below zero"),
        pytest.param(ids(600, "[1, 2, 3]"), "has 3 for 600 prompt tokens", id="an id too many"),
        pytest.param(ids(1600, "[1, 2]"), "one for each 512 of them", id="two ids too few"),
        pytest.param(ids(600, "[7, 7]"), "has 7 after 7 here, and first earlier", id="twice"),
        pytest.param(
            ids(1024, "[1, 2]") + ids(1024, "[3, 2]"),
            ":2, hash_ids: has 2 after 3 here, and after 1 earlier",
            id="an id of two beginnings",
        ),
        pytest.param('{"timestamp": 0}\n', ":1: has the fields timestamp", id="no form's fields"),
        pytest.param('{"input_length": 3}\n', ":1, timestamp: is None", id="no field"),
        pytest.param(
            answer(5, 1, 1) + '{"created": 6}\n', ":2: has no usage", id="an answer without usage"
        ),
        pytest.param(answer(5, 1, 1) + "[]\n", ":2: is not an object", id="a list"),
        pytest.param(routed(5.0, 2, 1.5), ":1, output_tokens: is 1.5", id="half a token routed"),
        pytest.param(
            "2026-01-01 level=info component=router msg=serving\n",
            "set monitoring.logFormat: json",
            id="a router's log as text",
        ),
        pytest.param(
            '{"component": "router", "message": "serving"}\n', "holds no requests", id="none logged"
        ),
        pytest.param('{"timestamp": 0,\n', ":1: is not JSON", id="broken JSON"),
    ],
)
def test_a_wrong_trace_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        load_trace(path)
    assert refused.value.code == "invalid-trace"
    assert f"{path}" in str(refused.value)
    assert said in str(refused.value)


def test_answers_of_one_second_are_spread_over_it(tmp_path: Path) -> None:
    """Their stamps are whole seconds: else each second would begin with a burst."""
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(answer(second, 9, 9) for second in (7, 8, 7, 7, 7)))
    assert load_trace(path).arrival_s.tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"\x1f\x8b broken"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trace.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load_trace(path)


@pytest.mark.parametrize(
    ("name", "machines", "dollars", "power"),
    [
        pytest.param("HH-25P-15T", 40, 1523.2, 1760, id="two pools of one kind"),
        pytest.param("HA-25P-26T", 51, 1411.7, 1745, id="two kinds"),
        pytest.param("HHcap-25P-21T", 46, 1751.7, 1747, id="capped token machines"),
        pytest.param("BA-70P_T", 70, 1237.6, 1736, id="a baseline"),
    ],
)
def test_a_design_by_name(name: str, machines: int, dollars: float, power: float) -> None:
    design = parse_design(name, load_catalog())
    assert str(design) == name
    assert design.machines == machines
    assert design.dollars_per_hour == pytest.approx(dollars, abs=0.05)
    assert design.power_units == pytest.approx(power, abs=0.5)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("HH", "is not a design"),
        ("HH-0P-5T", "lacks a phase"),
        ("HH-5P-0T", "lacks a phase"),
        ("HX-5P-5T", "names no machines"),
        ("BX-5P_T", "names no machines"),
        ("BH-5P-5T", "mixes the two forms"),
        ("HH-99999P-5T", "use at most"),
    ],
)
def test_a_wrong_design_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        parse_design(name, load_catalog())
    assert refused.value.code == "invalid-design"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        pytest.param(("machines", "dgx-a100", "gpus"), 0, "gpus: is 0", id="no GPUs"),
        pytest.param(("machines", "dgx-a100", "gpus"), 1.5, "whole number", id="half a GPU"),
        pytest.param(
            ("machines", "dgx-a100", "dollars_per_hour"), "x", "above zero", id="no price"
        ),
        pytest.param(("machines", "dgx-a100", "prize"), 1, "prize: is not a field", id="unknown"),
        pytest.param(("machines", "dgx-a100", "source"), ..., "source: is missing", id="no source"),
        pytest.param(("machines", "dgx-a100", "letter"), "H", "a letter twice", id="letter twice"),
        pytest.param(("machines", "dgx-a100"), [], "is not a mapping", id="no mapping"),
        pytest.param(("models",), {}, "models: is not a mapping with", id="no models"),
        pytest.param(("prices",), {}, "lacks its two sections", id="another section"),
    ],
)
def test_a_wrong_catalogue_is_refused(
    tmp_path: Path, path: tuple[str, ...], value: object, said: str
) -> None:
    document = yaml.safe_load(SHIPPED.read_text("utf-8"))
    place = document
    for part in path[:-1]:
        place = place[part]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    file = tmp_path / "catalog.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(UserError) as refused:
        load_catalog(file)
    assert refused.value.code == "invalid-catalog"
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(("prompt_ms", "prompt"), "lacks prompt_ms", id="column"),
        pytest.param((",8,128,1,128,", ",8,128,0,128,"), "not above zero", id="no sequences"),
        pytest.param((",8,128,1,128,", ",8,128,one,128,"), "invalid literal", id="no number"),
        pytest.param((",8,128,1,128,", ",8,128,1,128,5 "), "not above zero", id="uneven repeats"),
        pytest.param((",8,128,1,128,", ",8,128,1,128,nan,"), "instead of 8", id="too many values"),
    ],
)
def test_wrong_phase_times_are_refused_by_line(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    text = PUBLISHED.read_text("utf-8")
    file = tmp_path / "times.csv"
    file.write_text(text.replace(*change, 1))
    with pytest.raises(UserError, match=rf"times\.csv:\d+: .*{said}") as refused:
        load_phase_times(file)
    assert refused.value.code == "invalid-phase-times"


def test_what_was_not_measured_is_said() -> None:
    with pytest.raises(UserError, match=r"use one of .*bloom-176b/a100-80gb/8"):
        shapes_of(load_phase_times(), "bloom-176b", "a100-80gb", 4)
