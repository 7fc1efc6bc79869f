"""This module takes records that are forgotten out of a page group, before anything is sent. Pure.

It costs nothing as long as nothing is forgotten, and then a look at each different tenant of a page group.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.normalize.normalizer import NormalizedPages
from sequin_pipeline.records.forgotten import Forgotten
from sequin_pipeline.sources import Listed
from sequin_pipeline.table.target import Target
from sequin_pipeline.write.prepare import PageGroup


def without_forgotten(target: Target, group: PageGroup, forgotten: Forgotten) -> PageGroup:
    """Returns the page group without what is forgotten, and with the keys of the rows that were taken out."""
    if not forgotten.hashes:
        return group
    pages, keys, ids, rejects = [], list(group.forgotten_keys), set[str](), 0
    for page in group.pages:
        kept, dropped = _without_rows(target, page, forgotten)
        stay = tuple(reject for reject in page.rejects if not forgotten.holds_raw(target.label, reject.raw))
        gone = {reject.record_id for reject in page.rejects if reject.record_id} - {reject.record_id for reject in stay}
        ids |= {str(one) for one in dropped.get(target.record_id, [])} | gone
        keys += map(str, dropped.get(target.key[-1], []))
        rejects += len(page.rejects) - len(stay)
        pages.append(replace(kept, rejects=stay) if rejects else kept)
    return replace(
        group,
        pages=tuple(pages),
        listed=tuple(rest for listed in group.listed if (rest := _without_ids(listed, ids, forgotten)) is not None),
        held=None if group.held and forgotten.holds_tenant(None, group.held.sync_id) else group.held,
        forgotten_keys=tuple(keys),
        forgotten_rejects=group.forgotten_rejects + rejects,
    )


def _without_rows(target: Target, page: NormalizedPages, forgotten: Forgotten) -> tuple[NormalizedPages, dict[str, list[object]]]:
    """Returns the page, and by column (the key's last, the record's id) the values of the rows that were taken out."""
    frame = page.frame
    is_gone = np.zeros(len(frame), dtype=bool)
    for name, holds in _questions(target, forgotten).items():
        if name in frame.columns and len(frame):
            values = pa.array(frame[name], from_pandas=True)
            if isinstance(values, pa.ChunkedArray):
                values = values.combine_chunks()
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                gone = [one for one in pc.unique(values).to_pylist() if one is not None and holds(one)]
                is_gone |= pc.is_in(values, pa.array(gone, values.type)).to_numpy(zero_copy_only=False)
    if not is_gone.any():
        return page, {}
    names = {target.key[-1], target.record_id}
    dropped = {name: frame[name][is_gone].tolist() for name in names}
    return replace(page, frame=frame[~is_gone].reset_index(drop=True)), dropped


def _questions(target: Target, forgotten: Forgotten) -> dict[str, Callable[[str], bool]]:
    asked: dict[str, Callable[[str], bool]] = {
        "sync_id": lambda sync_id: forgotten.holds_tenant(None, sync_id),
        "internal_id": lambda internal_id: forgotten.holds_tenant(internal_id, None),
    }
    if target.label in forgotten.labels:
        asked[target.record_id] = lambda record_id: forgotten.holds_record(target.label, record_id)
    return asked


def _without_ids(listed: Listed, ids: set[str], forgotten: Forgotten) -> Listed | None:
    """Returns what pages say of a listing, without the ids that are forgotten; None where that is all of it: they are kept nowhere."""
    if forgotten.holds_tenant(None, listed.sync_id):
        return None
    kept = tuple(one for one in listed.ids if one not in ids)
    return replace(listed, ids=kept) if kept or not listed.ids else None
