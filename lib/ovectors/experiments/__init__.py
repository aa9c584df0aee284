"""One module per question: (model, relation, settings) in, a tidy table out."""
