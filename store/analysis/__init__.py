"""What is computed from a study on request: steps, models and tokens compared, probes, claims."""
