"""What several questions measure with: sources of vectors, putting them in, what came out."""
