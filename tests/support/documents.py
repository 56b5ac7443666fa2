"""The documents as the tests read them: fenced blocks by section, and links into the code.

Run as a program (`make links`) it sets the line numbers of links into the code right: the text of such a link names a
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
    """A fenced block: its language, and what is in it."""

    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command of a console block, and what stands under it as its output."""

    line: str
    output: str


@dataclass(frozen=True)
class Link:
    """A link: its text, and where it leads."""

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
        """The line of code that it leads to, if it does."""
        found = _ANCHOR.search(self.target)
        return int(found[1]) if found else None


def sections(path: Path) -> dict[str, list[Block]]:
    """The fenced blocks under each heading of the second level; those before the first are under ""."""
    found: dict[str, list[Block]] = {}
    for part in re.split(r"^(?=## )", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        title = part.partition("\n")[0].removeprefix("## ") if part.startswith("## ") else ""
        found[title] = [Block(language, text) for language, text in _FENCE.findall(part)]
    return found


def commands(text: str) -> Iterator[Command]:
    """The commands of a console block: lines after "$ ", which a backslash at the end continues."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        count = next((number for number, line in enumerate(lines, 1) if not line.endswith("\\")), len(lines))
        yield Command("\n".join(lines[:count]), "\n".join(lines[count:]))


def links(text: str) -> list[Link]:
    """The links of a document, but for those in fenced blocks."""
    return [Link(found["text"], found["target"]) for found in _LINK.finditer(_FENCE.sub("", text))]


def headings(path: Path) -> set[str]:
    """The fragments that lead to headings of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def line_of(code: Path, text: str, current: int) -> int:
    """The line that a link of that text leads to. Raises ValueError where there is none, or there are several.

    Text in backticks that names a function, class, method or variable leads to its definition; other text in
    backticks to the line that has it in it.
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
    """The lines in which names are defined, those of methods and attributes with their class's and without."""
    found: dict[str, int] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.setdefault(prefix + node.name, node.lineno)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        found.setdefault(prefix + target.id, node.lineno)

    visit(ast.parse(source).body, "")
    return found


def corrected(path: Path) -> str:
    """The document at `path` with the line numbers as they should be. Raises ValueError."""

    def put_right(found: re.Match[str]) -> str:
        link = Link(found["text"], found["target"])
        if link.line is None:
            return found[0]
        line = line_of(path.parent / link.file, link.text, link.line)
        return f"[{link.text}]({link.file}#L{line})"

    return _LINK.sub(put_right, path.read_text(encoding="utf-8"))


def main() -> int:
    """Set the documents right; the exit status says whether all could be."""
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
