"""What disaggregation gains or costs on this machine: one load, three clusters of equal cores."""
