"""This module reads paths into a record, as a defs.yaml writes them: names and indexes only. Pure."""

import re
from dataclasses import dataclass
from typing import Literal

from sequin_pipeline.errors import CatalogError


@dataclass(frozen=True)
class Path:
    """This value says where a value stands in a record: RFC 9535 with a leading `$.` implied, names and indexes only.

    `root` is `data` for the provider's object and `record` for the envelope around it.
    """

    root: Literal["data", "record"]
    steps: tuple[str | int, ...]

    def __str__(self) -> str:
        text = "record" if self.root == "record" else "$"
        for step in self.steps:
            if isinstance(step, int):
                text += f"[{step}]"
            elif _NAME.fullmatch(step):
                text += f".{step}"
            else:
                escaped = step.replace("\\", "\\\\").replace("'", "\\'")
                text += f"['{escaped}']"
        return text


_NAME = re.compile(r"[^\W\d][\w-]*")
_STEP = re.compile(r"""\.?(?P<name>[^\W\d][\w-]*)|\[(?P<index>0|[1-9]\d{0,8})\]|\['(?P<quoted>(?:[^'\\]|\\['\\])*)'\]""")


def parse_path(text: str) -> Path:
    """Reads `items.data[0].price.id`, `['a.b'].c`, `record.sync.metadata`, `$.record.x` (then `record` is a key of `data`)."""
    is_explicit = text.startswith("$")
    rest = text[1:] if is_explicit else text
    steps: list[str | int] = []
    position = 0
    while position < len(rest):
        step = _STEP.match(rest, position)
        leads_with_dot = rest[position] == "."
        is_name = step is not None and step["name"] is not None
        if step is None or (is_name and leads_with_dot != bool(steps or is_explicit)):
            raise CatalogError(
                f"path {text!r} is not understood at character {position + 1 + is_explicit}: write names and indexes only, "
                "as in items.data[0].price.id or ['key with.dots'].id"
            )
        if is_name:
            steps.append(step["name"])
        elif step["index"] is not None:
            steps.append(int(step["index"]))
        else:
            steps.append(re.sub(r"\\(['\\])", r"\1", step["quoted"]))
        position = step.end()
    if not steps:
        raise CatalogError(f"path {text!r} is empty: name a key of the provider's object, as in customer or items.data[0].id")
    if not is_explicit and steps[0] == "record" and len(steps) > 1 and text.startswith("record"):
        return Path("record", tuple(steps[1:]))
    return Path("data", tuple(steps))
