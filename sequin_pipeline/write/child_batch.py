"""This module makes the rows of child tables from the records of a batch. Pure."""

import pyarrow as pa
import pyarrow.compute as pc

from sequin_pipeline.table.target import PARENT_ID, TENANT_COLUMNS, ChildTarget, Target
from sequin_pipeline.write.batch import Batch, Flags


def elements_of(target: Target, batch: Batch, child: ChildTarget) -> pa.Table:
    """Returns the rows that a batch brings for one child table, with that table's columns; none of rows that are to be removed."""
    lists = batch.column(child.declared.frame_name).combine_chunks()
    if target.removes:
        lists = pc.if_else(pa.array(tombstones(target, batch)), pa.scalar(None, lists.type), lists)
    record_of, elements = pc.list_parent_indices(lists), pc.list_flatten(lists)
    arrays = {field.name: pc.struct_field(elements, field.name) for field in elements.type}
    of_record = {PARENT_ID: target.key[0], **{name: name for name in (*TENANT_COLUMNS, target.version, target.tombstone) if name}}
    arrays |= {ours: batch.column(theirs).combine_chunks().take(record_of) for ours, theirs in of_record.items()}
    return pa.table({name: arrays[name] for name in child.target.column_names})


def tombstones(target: Target, batch: Batch) -> Flags:
    """Says for each row whether its object was deleted."""
    is_deleted: Flags = batch.column(target.tombstone or "").combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
    return is_deleted


def keeping(target: Target, batch: Batch) -> Flags:
    """Says for each row whether it brings no object of its own, so that the children which are stored may be right.

    That is a bare tombstone, whether or not it carries the object of another record of its batch; and in a refill an object of which
    some element does not fit.
    """
    is_left: Flags = batch.carries.copy()
    if target.data in batch.delivered.column_names:
        is_without = batch.column(target.data or "").is_null().combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
        is_left |= is_without & tombstones(target, batch)
    for child in target.children:
        is_left |= batch.column(child.declared.frame_name).is_null().combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
    return is_left
