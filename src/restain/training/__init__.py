"""Training a stainer: the loop, schedules, checkpoints, exact resume."""
