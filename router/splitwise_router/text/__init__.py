"""Text to tokens and back: tokenizer, chat template, and text as it grows token by token."""
