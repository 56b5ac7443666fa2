"""Parse the documents: fenced blocks by section, and links into the code.

Run as a program (`make links`), it corrects the line numbers of links into the code. The text of such a link names a
symbol, as in [`LSTMCell`](../model/network/cells.py#L80), or quotes a line.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!`)\[(?P<text>(?:`[^`]*`|[^\]`])*)\]\((?P<target>[^)\s]+)\)")
_ANCHOR = re.compile(r"#L(\d+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command of a console block, and the output below it."""

    line: str
    output: str


@dataclass(frozen=True)
class Link:
    """A link: its text and its target."""

    text: str
    target: str

    @property
    def file(self) -> str:
        return self.target.partition("#")[0]

    @property
    def fragment(self) -> str:
        return self.target.partition("#")[2]

    @property
    def line(self) -> int | None:
        """The line number of a link into the code; None for other links."""
        match = _ANCHOR.search(self.target)
        return int(match[1]) if match else None


def sections(path: Path) -> dict[str, list[Block]]:
    """Return the fenced blocks below each heading of the second level; those before the first are below ""."""
    blocks: dict[str, list[Block]] = {}
    for part in re.split(r"^(?=## )", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        title = part.partition("\n")[0].removeprefix("## ") if part.startswith("## ") else ""
        blocks[title] = [Block(language, text) for language, text in _FENCE.findall(part)]
    return blocks


def commands(text: str) -> Iterator[Command]:
    """Yield the commands of a console block: lines after "$ ". A backslash at the end continues a line."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        count = next((number for number, line in enumerate(lines, 1) if not line.endswith("\\")), len(lines))
        yield Command("\n".join(lines[:count]), "\n".join(lines[count:]))


def links(text: str) -> list[Link]:
    """Return the links of a document, except those in fenced blocks."""
    return [Link(match["text"], match["target"]) for match in _LINK.finditer(_FENCE.sub("", text))]


def headings(path: Path) -> set[str]:
    """Return the fragments of the headings of a document, as GitHub forms them."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def line_of(code: Path, text: str, current: int) -> int:
    """Return the line that a link with that text leads to. Raises ValueError unless there is exactly one.

    Text that names a function, class, method or variable leads to its definition, other text to the line that
    contains it.
    """
    quoted = text.strip("`")
    source = code.read_text(encoding="utf-8")
    if code.suffix == ".py" and (line := _definitions(source).get(quoted)):
        return line
    lines = [number for number, line in enumerate(source.splitlines(), 1) if quoted in line]
    if current in lines:
        return current
    if len(lines) != 1:
        raise ValueError(f"{code}: {quoted!r} is in {len(lines)} lines")
    return lines[0]


def _definitions(source: str) -> dict[str, int]:
    """Return the lines of definitions by name. Names of methods and attributes include their class."""
    lines: dict[str, int] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                lines.setdefault(prefix + node.name, node.lineno)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        lines.setdefault(prefix + target.id, node.lineno)

    visit(ast.parse(source).body, "")
    return lines


def corrected(path: Path) -> str:
    """Return the document with correct line numbers. Raises ValueError."""

    def correct(match: re.Match[str]) -> str:
        link = Link(match["text"], match["target"])
        if link.line is None:
            return match[0]
        line = line_of(path.parent / link.file, link.text, link.line)
        return f"[{link.text}]({link.file}#L{line})"

    return _LINK.sub(correct, path.read_text(encoding="utf-8"))


def main() -> int:
    """Correct the documents. Return the exit status: 1 if a link leads nowhere."""
    status = 0
    for path in DOCUMENTS:
        try:
            path.write_text(corrected(path), encoding="utf-8")
        except (OSError, ValueError) as error:
            print(f"{path.relative_to(ROOT)}: {error}", file=sys.stderr)  # noqa: T201
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
