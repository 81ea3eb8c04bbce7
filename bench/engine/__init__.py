"""Our engine against `transformers` on the same weights, threads and machine, in one run."""
