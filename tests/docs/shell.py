"""The simple commands of a piece of shell, as far as documents use it: pipes, lists, here-documents, substitutions, assignments."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_HEREDOC = re.compile(r"<<-?\s*(?P<quote>['\"]?)(?P<end>\w+)(?P=quote)")
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=.*", re.DOTALL)
_BETWEEN = frozenset({"&&", "||", ";", "|", "&", "(", ")", "{", "}"})
_REDIRECTIONS = frozenset({">", ">>", "<", "2>", "&>", ">&", "<<", "<<<"})


@dataclass(frozen=True)
class Command:
    """`assigned` are the variables that it sets, for itself or, as `export` and a lone assignment do, for all that follow."""

    words: tuple[str, ...]
    assigned: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2] if self.words else ""


def commands_of(text: str) -> Iterator[Command]:
    """Every simple command, those of substitutions too; raises ValueError for a quote that is not closed."""
    body, _ = without_heredocs(text.replace("\\\n", " "))
    outer, substitutions = _without_substitutions(body)
    for inner in substitutions:
        yield from commands_of(inner)
    for line in _lines(outer):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "$%@,:+^!…{}[]#"
        lexer.commenters = ""
        yield from _simple(list(lexer))


def without_heredocs(text: str) -> tuple[str, dict[str, str]]:
    """The text without its here-documents, and these by the line that begins them."""
    lines, documents = text.splitlines(), {}
    kept: list[str] = []
    while lines:
        line = lines.pop(0)
        kept.append(_HEREDOC.sub("", line))
        if found := _HEREDOC.search(line):
            document: list[str] = []
            while lines and lines[0].strip() != found["end"]:
                document.append(lines.pop(0))
            if not lines:
                raise ValueError(f"the here-document of {line!r} does not end")
            lines.pop(0)
            documents[line] = "".join(each + "\n" for each in document)
    return "\n".join(kept), documents


def _without_substitutions(text: str) -> tuple[str, list[str]]:
    """The text with a word in place of each `$(…)`, and what stands in these; parentheses within quotes are text."""
    kept, inner = "", []
    while (start := text.find("$(")) >= 0:
        depth, quote, end = 1, "", start + 2
        while depth and end < len(text):
            character = text[end]
            if quote:
                quote = "" if character == quote else quote
            elif character in "'\"":
                quote = character
            else:
                depth += {"(": 1, ")": -1}.get(character, 0)
            end += 1
        kept += text[:start] + "substituted"
        inner.append(text[start + 2 : end - 1])
        text = text[end:]
    return kept + text, inner


def _lines(text: str) -> Iterator[str]:
    """Logical lines without comments: a quote may go over several."""
    pending = ""
    for line in text.splitlines():
        pending += ("\n" if pending else "") + (line if pending else _without_comment(line))
        try:
            shlex.split(pending, comments=True)
        except ValueError:
            continue
        if pending.strip():
            yield _without_comment(pending) if "\n" not in pending else pending
        pending = ""
    if pending:
        raise ValueError(f"a quote is not closed in {pending!r}")


def _without_comment(line: str) -> str:
    """The line up to a `#` that begins a word outside of quotes."""
    quote = ""
    for position, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (position == 0 or line[position - 1].isspace()):
            return line[:position]
    return line


def _simple(tokens: list[str]) -> Iterator[Command]:
    words: list[str] = []
    skips_next = False
    for token in [*tokens, ";"]:
        if skips_next:
            skips_next = False
        elif token in _REDIRECTIONS:
            if words and words[-1] in ("1", "2"):
                words.pop()
            skips_next = True
        elif token in _BETWEEN:
            if words:
                yield _command(words)
            words = []
        else:
            words.append(token)


def _command(words: list[str]) -> Command:
    assigned: list[str] = []
    while words and (found := _ASSIGNMENT.fullmatch(words[0])):
        assigned.append(found["name"])
        words = words[1:]
    if words[:1] == ["export"]:
        assigned += [word.partition("=")[0] for word in words[1:]]
    return Command(tuple(words), tuple(assigned))
