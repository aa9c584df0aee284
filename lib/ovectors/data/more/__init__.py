"""More facts: a CSV file a relation, and `relations.toml`, which says how each is asked about."""
