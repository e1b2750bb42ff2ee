"""Statistics of a running model that cost microseconds and merge across a fleet."""
