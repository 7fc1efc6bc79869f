"""What the doctor says of queues."""

from pathlib import Path

from sequin_pipeline.environment.settings import read_settings
from sequin_pipeline.operate.doctor.finding import Patient
from sequin_pipeline.operate.doctor.queues import queues
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.sandbox.server import running_sandbox
from tests.orchestration.files import write
from tests.support.builders import record
from tests.support.queues import feed_of

FIRST = "  provider: demo\n  source: sequin_consumer\n  queue: {consumer: c1}\n  collections: {thing: {}}\n"
SECOND = "  provider: shop\n  source: sequin_stream\n  queue: {consumer: c1}\n  collections: {order: {}}\n"


def test_queue_without_its_token_keeps_nobody_from_looking_at_the_others(tmp_path: Path) -> None:
    urls = {"WAREHOUSE_URL": "postgresql://h/w", "DAGSTER_POSTGRES_URL": "postgresql://h/d", "DAGSTER_HOME": str(tmp_path)}
    collections = load_collections(write(tmp_path, demo=FIRST, shop=SECOND))
    with running_sandbox(feed_of(record("a"))) as url:
        environment = {**urls, "SEQUIN_API_URL": "https://api.invalid", "SEQUIN_STREAM_URL": url, "SEQUIN_STREAM_TOKEN": "any"}
        settings = read_settings(environment, tmp_path, embedded_home=None, reads_records_api=False)

        first, second = queues(Patient(settings, environment, collections, None))

    assert (first.level, first.said.partition(", which")[0]) == (
        "problem",
        "demo: source 'sequin_consumer' needs SEQUIN_API_TOKEN",
    )
    assert (second.level, second.said.partition(":")[0]) == ("warning", "shop")
