"""Runs a Llama-family checkpoint: batches and a KV pool come in from the runner, logits go out."""
