"""`sequin-pipeline sandbox` serves the records API, or Stripe's, on this machine, for development and tests."""

from pathlib import Path

import click
from click.core import ParameterSource

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.settings import ENDS, MAX_LIMIT, NEXT_FORMS, RECORD_FORMS, End, NextForm, RecordForm, Settings

NOT_STRIPE = ("no_compact", "end", "form", "next_form", "ack_wait_ms", "max_ack_pending")
"""These options are of the records API."""


@click.command()
@click.option("--stripe", is_flag=True, help="Serve the Stripe API, in place of the records API, with the same objects.")
@click.option("--records", type=click.Path(path_type=Path), help="Serve this file of one JSON record a line, as it is.")
@click.option("--no-compact", is_flag=True, help="Keep every version of a record where it came in.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of 127.0.0.1; 0: any free one.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, other objects.")
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="Changes a second while the sandbox runs.")
@click.option("--state", type=click.Path(path_type=Path), help="Where the changes of --rate are remembered across restarts.")
@click.option("--limit-cap", type=click.IntRange(1, MAX_LIMIT), default=MAX_LIMIT, show_default=True, help="Most records a page.")
@click.option("--delay-ms", type=click.IntRange(min=0), default=0, help="Wait before each page.")
@click.option("--token", help="Refuse requests without this bearer token.")
@click.option(
    "--requests-per-second",
    type=click.IntRange(min=0),
    default=25,
    show_default=True,
    help="With --stripe: what each account may send; 0: any number.",
)
@click.option("--fault", "faults", multiple=True, help="Let requests go wrong, such as 'status:503,at=2'; may be repeated.")
@click.option("--end", type=click.Choice(ENDS), default="empty-null", show_default=True, help="What the end of the stream is.")
@click.option("--form", type=click.Choice(RECORD_FORMS), default="current", show_default=True, help="The form of records.")
@click.option("--next-form", type=click.Choice(NEXT_FORMS), default="object", show_default=True, help="The form of messages.")
@click.option("--ack-wait-ms", type=click.IntRange(min=1), default=30_000, show_default=True, help="Until a message comes again.")
@click.option("--max-ack-pending", type=click.IntRange(min=1), default=1000, show_default=True, help="Messages out at a time.")
@click.option("--home", type=click.Path(path_type=Path), hidden=True, help="Where the launcher keeps its files.")
@click.option("--listener", "listener_fd", type=int, hidden=True, help="Serve on this inherited socket and leave the terminal.")
@click.pass_context
def command(
    context: click.Context,
    *,
    stripe: bool,
    records: Path | None,
    no_compact: bool,
    port: int,
    seed: int,
    rate: float,
    state: Path | None,
    limit_cap: int,
    delay_ms: int,
    token: str | None,
    requests_per_second: int,
    faults: tuple[str, ...],
    end: End,
    form: RecordForm,
    next_form: NextForm,
    ack_wait_ms: int,
    max_ack_pending: int,
    home: Path | None,
    listener_fd: int | None,
) -> None:
    """Serve the records API, or Stripe's, on 127.0.0.1, with made-up objects or the records of a file.

    Prints its address, and the line to paste where the pipeline is to read from it; serves until it is interrupted.
    """
    if records is not None and (rate or state):
        raise ConfigurationError("--rate and --state belong to made-up objects: a sandbox that serves --records does not change")
    if stripe:
        _refuse_what_is_not_stripe_s(context, token)
    settings = Settings(
        token=token,
        limit_cap=limit_cap,
        delay_ms=delay_ms,
        end=end,
        form=form,
        next_form=next_form,
        ack_wait_ms=ack_wait_ms,
        max_ack_pending=max_ack_pending,
        requests_per_second=requests_per_second,
        faults=faults,
        home=str(home) if home else None,
    )
    from sequin_pipeline.sandbox.foreground import serve, serve_stripe

    if stripe:
        serve_stripe(settings, records=records, seed=seed, rate=rate, state=state, port=port)
        return
    serve(
        settings,
        records=records,
        is_compacted=not no_compact,
        seed=seed,
        rate=rate,
        state=state,
        port=port,
        listener_fd=listener_fd,
    )


def _refuse_what_is_not_stripe_s(context: click.Context, token: str | None) -> None:
    given = [
        f"--{name.replace('_', '-')}" for name in NOT_STRIPE if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]
    if given:
        raise ConfigurationError(f"{', '.join(given)} cannot be used with --stripe: it is of the records API alone")
    if token is not None and not token.startswith(("rk_test_", "sk_test_")):
        raise ConfigurationError(
            "--token with --stripe is the key that the sandbox asks for, and must begin with rk_test_: a key of a real account does "
            "not belong on a command line"
        )
