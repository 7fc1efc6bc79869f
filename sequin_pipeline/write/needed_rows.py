"""This module finds out which rows of a batch the table needs, and reads of lazy pages what only those need.

A known record is told by its version and its hash alone. Everything else is read whole, also what has become old or was delivered
twice: a value that does not fit makes its record a reject, whatever else would have become of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow.compute as pc

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.normalize.normalizer import Reject
from sequin_pipeline.normalize.page_reader import ROW_NUMBER
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.batch import Batch, Flags, Place, build_batch
from sequin_pipeline.write.known_rows import Answer, Asking, Question, build_question
from sequin_pipeline.write.prepare import NOTHING_KNOWN, NOTHING_REFUSED, Prepared, earlier_hashes

Ask = Callable[[Batch, Question], Answer]


@dataclass(frozen=True)
class Needed:
    """This value holds the rows that have to be sent, with all their columns, and counts those that the table knows.

    `is_only_new`: the table was asked, and has no row of any of them. `unfit` are rows that turned out not to fit: then the rest
    means nothing, and the batch has to be made again without them.
    """

    batch: Batch = field(repr=False)
    known: Mapping[int, Counts] = field(default_factory=lambda: NOTHING_KNOWN)
    is_only_new: bool = False
    unfit: Mapping[Place, Reject] = field(default_factory=lambda: NOTHING_REFUSED)


def find_needed(target: Target, prepared: Prepared, asking: Asking, ask: Ask, *, window_starts: Sequence[datetime]) -> Needed:
    """Returns what has to be sent of the batch, lazy pages read; asks the table for it, by `ask`, if that is worthwhile."""
    batch = prepared.batch
    if not asking.is_worthwhile(batch):
        return _read(target, prepared, window_starts, np.zeros(len(batch), dtype=bool)) if prepared.is_lazy else Needed(batch)
    answer = ask(batch, prepared.question or build_question(target, batch))
    rest = batch.only(answer.is_needed)
    if prepared.is_lazy:
        read = _read(target, prepared, window_starts, answer.is_known)
        if read.unfit:
            return read
        rest = _of_same_keys(target, read.batch, rest) if len(rest) else rest
    known, is_new, by_earlier_hash = answer.counts, answer.is_new[answer.is_needed], answer.by_earlier_hash
    earlier = earlier_hashes(prepared.group.pages, rest) if answer.has_other_hashes and not answer.knew_earlier_hashes else None
    if earlier is not None:
        second = ask(rest, build_question(target, rest, earlier))
        known = {window: known.get(window, Counts()) + second.counts.get(window, Counts()) for window in {*known, *second.counts}}
        rest, is_new = rest.only(second.is_needed), second.is_new[second.is_needed]
        by_earlier_hash += second.by_earlier_hash
    asking.learn_hashes(by_earlier_hash, rows=len(batch))
    return Needed(rest, known, is_only_new=len(rest) > 0 and bool(is_new.all()))


def _read(target: Target, prepared: Prepared, window_starts: Sequence[datetime], is_known: Flags) -> Needed:
    """Reads every row of the lane that is not known, duplicates included."""
    batch, pages = prepared.batch, prepared.group.pages
    page_of, position_of = (
        np.concatenate([of_newest[~is_known], of_others])
        for of_newest, of_others in zip(batch.places, batch.passed_over, strict=True)
    )
    normalizer = pages[0].normalizer
    if not len(page_of) or normalizer is None:
        return Needed(batch.only(~is_known))
    wanted = [np.isin(each.frame[ROW_NUMBER].to_numpy(), position_of[page_of == index]) for index, each in enumerate(pages)]
    read = normalizer.complete_together(pages, wanted)
    pages_of, positions_of = read.origins
    unfit = {Place(int(pages_of[row]), int(positions_of[row])): reject for row, reject in read.unfit.items()}
    together = build_batch(target, [read.pages], window_starts=window_starts)
    return Needed(together.originating(read.origins), unfit=unfit)


def _of_same_keys(target: Target, read: Batch, rest: Batch) -> Batch:
    is_needed = pc.is_in(read.column(target.key[0]), rest.column(target.key[0]).combine_chunks())
    return read.only(is_needed.combine_chunks().to_numpy(zero_copy_only=False))
