"""This module lists and finds the commands of a group: each with a whole sentence, and a wrong name with what may have been meant."""

import click

from sequin_pipeline.declare.suggestions import suggestion

UNCUT = 1_000
"""click cuts the sentences of a list to one line; none is this long."""


class Group(click.Group):
    """This group wraps the sentences of its commands instead of cutting them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes each command's name and the first sentence of its help."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(UNCUT)))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds a command by its first word; a name that there is not ends in a usage error with those that look like it."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(f"No such command {name!r}: {suggestion(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)
