"""The router's tokens are those of the model's own tokenizer."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Reference

from splitwise_router.text.tokenizer import Tokenizer


@given(text=st.text(max_size=60) | st.just("<|user|>one two<|end|>"), special=st.booleans())
def test_text_becomes_the_tokens_that_the_model_knows(
    model: Path, text: str, special: bool
) -> None:
    reference = Reference.from_file(str(model / "tokenizer.json"))
    expected = reference.encode(text, add_special_tokens=special).ids
    assert Tokenizer.load(model, None).encode(text, special) == expected
