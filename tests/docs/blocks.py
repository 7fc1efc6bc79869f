"""The fenced blocks of every page, and what the comment above one says of it.

A block says in its first line what it is: ```sh (commands), ```console (commands after `$ `, with what they print), ```yaml, ```python,
```sql, ```json, ```jsonl, ```http, ```diff, ```toml, ```mermaid, or ```text (nothing that anybody types). Each but the last is tried by
test_blocks.py. What cannot be tried says why, in a comment on the line above it:

    <!-- not run: REASON -->        its form is looked at, and nothing is executed
    <!-- fragment: NAME -->         it is tried between the two texts that FRAGMENTS has for the name
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.checkout import CHECKOUT

PAGES = tuple(sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *CHECKOUT.glob("examples/*/README.md")]))

LANGUAGES = ("sh", "console", "yaml", "python", "sql", "json", "jsonl", "http", "diff", "toml", "mermaid", "text")

FRAGMENTS: Mapping[str, tuple[str, str]] = {
    "attributes": (
        "type: sequin_pipeline.component.CollectionSync\nattributes:\n  provider: stripe\n  collections: {customer: {}}\n",
        "",
    ),
    "expression on two frames": (
        "import pandas as pd\n"
        "subscription = pd.DataFrame({'sync_id': ['one'], 'upstream_id': ['sub_1'], 'stripe_customer_id': ['cus_1']})\n"
        "customer = pd.DataFrame({'sync_id': ['one'], 'upstream_id': ['cus_1']})\n",
        "",
    ),
}
"""What stands before and after a block that is a part of something."""

_OPENING = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^`\n]*)$", re.MULTILINE)
_COMMENT = re.compile(r"<!-- (?P<word>not run|fragment): (?P<text>.*) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A block of a page; `line` is that of its first fence, `number` counts the blocks of the page from 0."""

    page: Path
    number: int
    line: int
    language: str
    text: str = field(repr=False)
    reason: str | None = None
    fragment: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"

    def whole(self) -> str:
        """The text, between what makes a fragment whole."""
        before, after = ("", "") if self.fragment is None else FRAGMENTS[self.fragment]
        return before + self.text + after


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    position = number = 0
    while opening := _OPENING.search(text, position):
        closing = re.compile(rf"^ *{opening['fence']}`*[ \t]*$", re.MULTILINE).search(text, opening.end())
        assert closing is not None, f"{page.relative_to(CHECKOUT)}: a block of line {_line(text, opening.start())} is not closed"
        said = _COMMENT.search(text[: opening.start()].removesuffix("\n").rpartition("\n")[2])
        yield Block(
            page,
            number,
            _line(text, opening.start()),
            opening["language"].strip(),
            text[opening.end() + 1 : closing.start()],
            reason=said["text"] if said and said["word"] == "not run" else None,
            fragment=said["text"] if said and said["word"] == "fragment" else None,
        )
        position, number = closing.end(), number + 1


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


BLOCKS = tuple(block for page in PAGES for block in blocks_of(page))
