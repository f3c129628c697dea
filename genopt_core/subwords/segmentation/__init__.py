"""How a word is segmented: its lattice, and the cheapest, the n best and random paths through it.

Read in this order:

- ``costs`` — what a piece costs, in nats, and what words and costs may be
- ``lattice`` — all segmentations of a word, and of all words at once
- ``paths`` — the cheapest one, of one word
- ``program`` — the same as a linear program
- ``corpus`` — the cheapest ones of all words at once
- ``sampling`` — the n best, the sum over all, and a random one

``arcs`` sweeps over all words at once; ``trie`` and ``arrays`` are what these are built from.
"""
