"""How a vocabulary is trained.

In reading order: ``candidates`` (a first vocabulary without training), ``likelihood`` (what is
maximized, and hard EM, both as in a textbook), ``substrings`` (all candidates in arrays), ``arcs``,
``em`` (fitting the costs of given pieces), ``pruning``, ``search`` (local), ``dual`` and ``ascent``
(the relaxed problem), ``new_words`` (looking ahead on a small corpus), ``trainer`` and ``train``.
The algorithm, with the functions to open::

    train(word_counts, size, objective)
        table = Substrings(word_counts)            all substrings that are frequent enough,
        table = table.only(table.maximal())        less those inside an equally frequent one
        Trainer.cheapest(penalty)                  or fewest_tokens() or for_new_words(penalty)
            _started
                either (tokens, or "best" with a penalty), _rounded_off:
                    share = ascend(table, K)       how much of each piece the relaxation wants
                    prune_to_size(share > 0.02)
                or, _pruned_to_size:
                    pieces = the 5 * size candidates with the most characters
                    while more than 2 * size:
                        soft_step                  EM over all segmentations (expected_counts)
                        pruned(half of them)
                    while more than size:
                        prune_to_size(a tenth less)
            _searched: local_search
                each round:
                    insertion_gains                what every absent substring would gain
                    add the best of them, prune_to_size
                    keep the result if the objective fell
        Vocabulary(pieces, ln p, counts, length_cost=penalty)

    prune_to_size(pieces, size, step)
        until there are size pieces:
            hard_em                                best paths (segment_all), refitted costs
            removal_losses of the suspected        exact: count_changes along every detour
            pruned(step pieces of least loss)
"""
