"""A node is a place in a defs.yaml, so that every refusal names file and line.

What YAML's own readers would pass over is refused here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import yaml

from sequin_pipeline.errors import CatalogError


@dataclass(frozen=True)
class Node:
    """A node is a place in the YAML.

    `origin_of` gives `file:line` of a path of keys, or of its nearest ancestor that the file has.
    """

    origin_of: Callable[[tuple[str | int, ...]], str | None]
    path: tuple[str | int, ...] = ()

    def __truediv__(self, key: str | int) -> "Node":
        return Node(self.origin_of, (*self.path, key))

    @property
    def origin(self) -> str | None:
        """This is the place as `file:line`, where the declaration came from a file."""
        return self.origin_of(self.path)

    def refused(self, message: str) -> CatalogError:
        """Returns the error to raise about this place."""
        return CatalogError(message, self.origin)


def check_keys(text: str, filename: str) -> None:
    """Raises CatalogError for a key that stands twice in one mapping: YAML's readers take the last one in silence."""
    documents = yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    nodes: list[yaml.Node] = [document for document in documents if document is not None]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.SequenceNode):
            nodes.extend(node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            first = seen.setdefault(str(key.value), line)
            if first != line:
                raise CatalogError(
                    f"duplicate key {key.value!r} (first on line {first}): remove one of the two",
                    f"{filename}:{line}",
                )
            nodes.append(value)


def check_text(what: str, text: str, pattern: str, *, node: Node, rule: str) -> None:
    if not re.fullmatch(pattern, text):
        raise node.refused(f"{what} {text!r} cannot be used: expected {rule}")
