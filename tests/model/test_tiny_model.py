"""The tiny model knows its tasks, and any text survives its tokenizer."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from splitwise_core.tiny_tasks import Question, counting, lookup, pairs_for, weekdays
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.tiny.rows import IGNORED, Rows
from splitwise_worker.tiny.vocabulary import END, VOCABULARY, write_tokenizer

LENGTH = 2048


class Model:
    """Greedy answers of the worker's own decoder."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self.decoder = Decoder.load(directory, max_model_len=LENGTH)
        c = self.decoder.config
        self._kv = torch.zeros(1, c.num_layers, 2, LENGTH, c.kv_heads, c.head_dim)

    def answer(self, prompt: list[int], max_tokens: int) -> list[int]:
        """Tokens up to and with the end token, at most `max_tokens`."""
        run, start, answer = prompt, 0, list[int]()
        with torch.inference_mode():
            while len(answer) < max_tokens and VOCABULARY[END] not in answer:
                batch = make_batch([Span(run, start, [0])], LENGTH, "cpu")
                start += len(run)
                run = [int(self.decoder.forward(batch, self._kv)[0].argmax())]
                answer += run
        return answer

    def text(self, question: Question) -> str:
        tokens = self.answer(self.tokenizer.encode(question.prompt), question.max_tokens)
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def chat(self, question: Question) -> list[int]:
        messages = [{"role": "user", "content": question.prompt}]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return self.answer(self.tokenizer.encode(text, add_special_tokens=False), 8)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return Model(tiny_model)


@pytest.mark.parametrize("ask", [counting, weekdays], ids=["numbers", "days"])
def test_it_goes_on_with_a_series(model: Model, ask: Any) -> None:
    draw = random.Random(3)
    for question in (ask(draw) for _ in range(25)):
        assert model.text(question) == question.answer


@pytest.mark.parametrize(("tokens", "asked"), [(40, 150), (300, 100), (1500, 50)])
def test_it_finds_a_value_at_any_length(model: Model, tokens: int, asked: int) -> None:
    draw = random.Random(tokens)
    questions = [lookup(draw, pairs_for(tokens)) for _ in range(asked)]
    right = sum(model.text(question) == question.answer for question in questions)
    assert right >= 0.99 * asked


def test_in_a_chat_it_says_the_value_and_stops(model: Model) -> None:
    draw = random.Random(5)
    for pairs in (3, 12, 60):
        question = lookup(draw, pairs)
        value, end = model.chat(question)
        assert model.tokenizer.decode([value]).strip() == question.answer
        assert end == VOCABULARY[END]


def test_transformers_reads_the_checkpoint_alike(model: Model, tiny_model: Path) -> None:
    question = lookup(random.Random(8), 40)
    tokens = model.tokenizer.encode(question.prompt)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    made = reference.generate(torch.tensor([tokens]), max_new_tokens=2, do_sample=False)
    assert made[0, len(tokens) :].tolist() == model.answer(tokens, 2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory, LENGTH)
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


@given(st.text() | st.text(alphabet=" 0123456789codes?;:Monday"))
def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    if not any(token in text for token in ("<|end|>", "<|user|>")):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_lookup_takes_a_token_a_word(tokenizer: Tokenizer) -> None:
    question = lookup(random.Random(1), pairs_for(1500))
    assert 1494 <= len(tokenizer.encode(question.prompt).ids) <= 1500
    assert len(tokenizer.encode(f" {question.answer}").ids) == 1


@pytest.mark.parametrize("length", [64, 128, 1024, 1536])
def test_training_rows_fill_their_length_and_are_the_same_for_a_seed(length: int) -> None:
    tokens, targets = Rows(9).batch(6, length, 0.4)
    assert tokens.shape == targets.shape == (6, length)
    again = Rows(9).batch(6, length, 0.4)
    assert torch.equal(tokens, again[0])
    assert torch.equal(targets, again[1])
    known = targets[:, :-1] != IGNORED
    assert known.any(dim=1).all()
    assert torch.equal(targets[:, :-1][known], tokens[:, 1:][known])
