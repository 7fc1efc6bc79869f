"""Queues that are drained: is each there, and does it take the token? No message is taken by looking."""

from collections.abc import Iterator

from sequin_pipeline.doctor.finding import Finding, Patient
from sequin_pipeline.doctor.source import PATIENCE
from sequin_pipeline.errors import PipelineError
from sequin_pipeline.sources.queue import QueueSource, QueueUnknown
from sequin_pipeline.sources.registry import missing_variables, open_source


def queues(patient: Patient) -> Iterator[Finding]:
    """One finding for each provider that is read from one."""
    declarations = {one.provider: one.source for one in patient.collections.values() if one.is_queued}
    for provider, declaration in declarations.items():
        missing = missing_variables(declaration, patient.environment)
        if missing:
            said = f"{provider} is read from {declaration.kind}, which needs {' and '.join(missing)}"
            yield Finding("queues", "problem", said, "set it in the environment or in .env")
            continue
        source = open_source(declaration, patient.environment)
        assert isinstance(source, QueueSource)  # noqa: S101 - what KINDS opens for a declaration of a queue
        try:
            source.reach(PATIENCE)
        except QueueUnknown as error:
            mend = "mend queue.consumer in the defs.yaml; a sandbox's comes into being with the first run"
            yield Finding("queues", "warning", f"{provider}: {error}", mend)
        except PipelineError as error:
            yield Finding("queues", "problem", f"{provider}: {error}", "the sentence says what to do")
        else:
            yield Finding("queues", "ok", f"{provider} is drained from {source.identity}, which takes the token")
