"""The facts: CSV files that `ovectors.relations` and `ovectors.prompts` read."""
