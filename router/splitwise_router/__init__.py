"""The OpenAI HTTP API in front of the workers: requests come in, placed legs and tokens go out."""
