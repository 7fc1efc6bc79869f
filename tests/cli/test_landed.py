"""The sentence at the end of a sync: true also when something failed or was filled."""

from dataclasses import replace

import pytest

from sequin_pipeline.cli.landed import Landed, _pace, _summary
from sequin_pipeline.ledger.counts import Counts


def landed(counts: Counts = Counts(), *, filled: int = 0, failure: str | None = None) -> Landed:  # noqa: B008 - frozen
    return Landed("demo/thing", "demo.thing", counts, rows=1, seconds=0.1, filled=filled, failure=failure)


@pytest.mark.parametrize(
    ("results", "sentences"),
    [
        pytest.param([landed()], ["Nothing new: nothing was written."], id="nothing new"),
        pytest.param(
            [landed(Counts(fetched=2, unchanged=2))], ["Nothing was written: 2 records fetched, all known."], id="all known"
        ),
        pytest.param(
            [landed(Counts(fetched=2, inserted=1, unchanged=1))], ["1 rows written from 2 records."], id="something new"
        ),
        pytest.param([landed(filled=883)], ["883 rows filled with new or changed columns."], id="a column filled"),
        pytest.param(
            [landed(), landed(failure="no answer")],
            ["1 of 2 failed; the next run continues where they stopped."],
            id="one failed, nobody knows whether there was anything new",
        ),
        pytest.param(
            [landed(Counts(fetched=3, inserted=2, rejected=1))],
            ["2 rows written, 1 records rejected: `sequin-pipeline rejects list` says why."],
            id="a reject",
        ),
    ],
)
def test_verdict_says_what_happened(results: list[Landed], sentences: list[str]) -> None:
    assert list(_summary(results)) == sentences


def test_bottleneck_is_told_of_the_longest_run_that_has_one() -> None:
    runs = [
        landed(),
        replace(landed(), seconds=2.0, bottleneck="server: most"),
        replace(landed(), seconds=1.0, bottleneck="source: most"),
    ]

    assert list(_pace(runs)) == ["Bottleneck of demo/thing: server: most."]
    assert list(_pace([landed()])) == []
