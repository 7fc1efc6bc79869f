"""The table of what Stripe lists: what holds for every line of it."""

import pytest

from sequin_pipeline.sources.stripe.objects import LISTABLE, MAX_EVENT_TYPES, Listable
from tests.sources.stripe.fake import TIME_FIELDS, TIMELESS


@pytest.mark.parametrize("listable", LISTABLE.values(), ids=LISTABLE.keys())
def test_events_are_one_pattern_or_as_many_names_as_a_request_takes(listable: Listable) -> None:
    assert len(listable.events) <= MAX_EVENT_TYPES
    assert len(listable.events) == 1 or not any("*" in event for event in listable.events)


def test_each_class_has_a_list_of_its_own_and_they_stand_in_order() -> None:
    assert list(LISTABLE) == sorted(LISTABLE)
    assert len({listable.path for listable in LISTABLE.values()}) == len(LISTABLE)


@pytest.mark.parametrize("listable", LISTABLE.values(), ids=LISTABLE.keys())
def test_each_class_says_which_field_tells_its_time(listable: Listable) -> None:
    expected = None if listable.name in TIMELESS else TIME_FIELDS.get(listable.name, "created")

    assert listable.time == expected


def test_no_list_is_asked_for_a_time_that_its_objects_do_not_tell() -> None:
    assert [listable.name for listable in LISTABLE.values() if listable.filters_created and listable.time is None] == []
