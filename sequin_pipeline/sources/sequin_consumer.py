"""This source drains a consumer of Sequin's API sync, `/v1/http-consumers/{id}`: the records of a whole stream as a work queue.

It delivers at least once and in any order, all collections of the stream together. Records come in the envelope of the records
API.
"""

from urllib.parse import quote

from sequin_pipeline.records import json_text
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.http.client import Answer, HttpClient, HttpOptions
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.queue import (
    DEFAULT_OPTIONS,
    DELIVERY_MESSAGES,
    WAIT_MILLISECONDS,
    Message,
    QueueSource,
    member,
    text_member,
)


class SequinConsumerSource(QueueSource):
    """This source drains consumer `consumer` of the records API at `url`, with bearer `token`."""

    ack_field = "ack_tokens"
    tells_all_values = True

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        consumer: str,
        wait_milliseconds: int = WAIT_MILLISECONDS,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> None:
        endpoint = Endpoint(url, token)
        super().__init__(
            endpoint, f"/v1/http-consumers/{quote(consumer, safe='')}", wait_milliseconds=wait_milliseconds, options=options
        )
        self.identity = SourceIdentity("sequin_consumer", endpoint.base_url, consumer)

    def _receive(self, http: HttpClient) -> Answer[list[Message]]:
        params = [("batch_size", str(DELIVERY_MESSAGES)), ("wait_for", str(self._wait_milliseconds))]
        return http.get(f"{self._path}/next", params, purpose=self._purpose, read=self._read)

    def _message(self, element: bytes) -> Message:
        members = json_text.members(element)
        return Message(text_member(members, "ack_token"), member(members, "record"))
