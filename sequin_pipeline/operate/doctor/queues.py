"""This check asks each queue whether it is there and accepts the token; no message is taken by looking."""

from collections.abc import Iterator

from sequin_pipeline.errors import ConfigurationError, PipelineError
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.operate.doctor.source import PATIENCE
from sequin_pipeline.sources.queue import QueueSource, QueueUnknown
from sequin_pipeline.sources.registry import missing_variables, open_source


def queues(patient: Patient) -> Iterator[Finding]:
    """Yields one finding for each queue, by the providers that it delivers."""
    declarations = {one.queue_key: one.source for one in patient.collections.values() if one.is_queued}
    for key, declaration in declarations.items():
        providers = " and ".join(dict.fromkeys(one.provider for one in patient.collections.values() if one.queue_key == key))
        missing = missing_variables(declaration, patient.environment)
        if missing:
            said = f"{providers}: source {declaration.kind!r} needs {' and '.join(missing)}"
            yield Finding("queues", "problem", said, "set it in the environment or in .env")
            continue
        try:
            source = open_source(declaration, patient.environment)
        except ConfigurationError as error:
            yield Finding("queues", "problem", f"{providers}: {error}", "the message says what to do")
            continue
        assert isinstance(source, QueueSource)  # noqa: S101 - what KINDS opens for a declaration of a queue
        try:
            source.check_access(PATIENCE)
        except QueueUnknown as error:
            fix = "fix queue.consumer in the defs.yaml; a sandbox creates it at the first run"
            yield Finding("queues", "warning", f"{providers}: {error}", fix)
        except PipelineError as error:
            yield Finding("queues", "problem", f"{providers}: {error}", "the message says what to do")
        else:
            yield Finding("queues", "ok", f"{source.identity} is drained for {providers}, and accepts the token")
