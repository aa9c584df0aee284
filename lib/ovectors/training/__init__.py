"""How the miniature models are made: lexicon, documents, tokenizer, training loop, evaluation."""
