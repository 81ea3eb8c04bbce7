"""What disaggregation gains or costs on this machine: one load, four clusters of equal cores."""
