"""This room proposes a collection's declaration from a sample of its records: what `sequin-pipeline infer` prints.

Proposals are tried on the sample by the same casts and the same normalizer that a run uses; nothing is written anywhere.
"""
