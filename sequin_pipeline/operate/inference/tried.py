"""This module tries a proposal before it is printed: it is read back by the validation of every file, and run over the sample."""

from collections.abc import Sequence
from datetime import UTC, datetime

import yaml

from sequin_pipeline.catalog import Collection
from sequin_pipeline.declare.node import Node
from sequin_pipeline.declare.parse import collections_of
from sequin_pipeline.declare.yaml_models import ProviderModel
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.operate.inference.proposal import Proposal, written
from sequin_pipeline.operate.inference.sample import Sample


def tried(proposal: Proposal, sample: Sample) -> str:
    """Returns the YAML of the proposal, with the result of trying it at its head; raises CatalogError if our own validation refuses
    it."""
    return written(proposal, _heading(proposal, sample))


def declared(text: str) -> Collection:
    """Returns the one collection that a defs.yaml with literal values declares; raises CatalogError."""
    model = ProviderModel.model_validate(yaml.safe_load(text)["attributes"])
    (collection,) = collections_of(model, Node(lambda path: None), now=datetime.now(UTC))
    return collection


def _heading(proposal: Proposal, sample: Sample) -> Sequence[str]:
    refused = _misfits(declared(written(proposal)), sample) + proposal.refused_records
    fit = f"{refused:,} of them would be rejected" if refused else "all of them fit"
    if proposal.is_refused:
        fit = "the table would take none of them"
    sound = sample.records - len(sample.rejects)
    lines = [f"Proposed from the first {sound:,} records of {proposal.provider}:{proposal.name}: {fit}."]
    if sample.rejects:
        reason = " ".join(sample.rejects[0].reason.split())
        lines.append(f"{len(sample.rejects):,} more cannot be stored, whatever is declared; one of them: {reason}")
    return lines


def _misfits(collection: Collection, sample: Sample) -> int:
    """Counts records that this declaration would reject, beyond those that every declaration does."""
    normalize = Normalizer(collection)
    return sum(len(normalize(page).rejects) for page in sample.pages) - len(sample.rejects)
