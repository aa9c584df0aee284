"""Apply, or which function? Every relation's o vector on arguments that several relations share.

The paper's three relations have no argument in common, and so cannot tell a vector that says "give
the capital" from one that says "now apply what is due here". *Poland* has a capital, a language and
a currency: each relation's vector is put in on the same patterns, and every answer is ranked.
"""
