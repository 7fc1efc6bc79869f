"""Builds the site of the documents, from the same Markdown that is read in the checkout: `make docs` runs it.

Zensical takes one folder of pages and checks the links between them. So the pages are laid out in one, each in the place that it has here,
with every file that they link to; a folder, which a site cannot show, becomes its README or plain text. A link that leads nowhere, or to an
anchor that is not there, ends the build: files that are no pages are looked for here, since Zensical 0.0.73 does not
(findings/zensical-strict-misses-files.sh).
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / "build" / "docs"
PAGES = BUILD / "pages"

CODE = re.compile(r"^( *)(`{3,}).*?^ *\2[ \t]*$|(?<!`)(`+)(?!`).+?(?<!`)\3(?!`)", re.MULTILINE | re.DOTALL)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def pages() -> list[Path]:
    """Every page of the site, as it lies in the checkout."""
    return sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *CHECKOUT.glob("examples/*/README.md")])


def lay_out(page: Path, problems: list[str]) -> None:
    """Writes the page to its place, and what it links to beside it."""
    text = page.read_text(encoding="utf-8")
    written = "".join(
        # A `|` in the code of a table is written `\\|` for GitHub, and without the backslash here.
        piece.replace("\\|", "|") if is_code else LINK.sub(lambda link: _linked(link, page, problems), piece)
        for piece, is_code in _pieces(text)
    )
    place = PAGES / page.relative_to(CHECKOUT)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(written, encoding="utf-8")


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces that are code, or none."""
    position = 0
    for code in CODE.finditer(text):
        yield text[position : code.start()], False
        yield code[0], True
        position = code.end()
    yield text[position:], False


def _linked(link: re.Match[str], page: Path, problems: list[str]) -> str:
    if "://" in link["target"] or link["target"].startswith("mailto:"):
        return link[0]
    target = (page.parent / link["target"]).resolve()
    if not target.exists():
        problems.append(f"{page.relative_to(CHECKOUT)}: {link['target']!r} is not there")
    elif target.is_dir():
        readme = target / "README.md"
        return f"[{link['text']}]({link['target'].rstrip('/')}/README.md)" if readme.exists() else link["text"]
    elif target.suffix != ".md":
        place = PAGES / target.relative_to(CHECKOUT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, place)
    return link[0]


def main() -> int:
    """Lays the pages out and has them built; the status is that of a command."""
    shutil.rmtree(BUILD, ignore_errors=True)
    problems: list[str] = []
    for page in pages():
        lay_out(page, problems)
    for problem in problems:
        print(f"docs: {problem}", file=sys.stderr)
    if problems:
        return 1
    shutil.copyfile(Path(__file__).with_name("zensical.toml"), BUILD / "zensical.toml")
    built = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict", "--config-file", BUILD / "zensical.toml"],
        cwd=BUILD,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # Of a build that fails the reason stands above Python's own traceback, in colours that no variable turns off.
    print(COLOUR.sub("", built.stdout).partition("Traceback (most recent call last)")[0].rstrip())
    if built.returncode == 0:
        print(f"docs: {BUILD / 'site' / 'index.html'}")
    return built.returncode


if __name__ == "__main__":
    sys.exit(main())
