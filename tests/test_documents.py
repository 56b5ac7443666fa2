"""Links, line numbers and commands in the documents are correct."""

import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
from support.documents import DOCUMENTS, ROOT, commands, corrected, headings, line_of, links, sections

from model.training.published import read_list
from model.training.recipe import Recipe
from wordlight.cli import _parser

# A member of the family, and the last cell of its row.
FAMILY_ROW = re.compile(r"^\|.*`([a-z-]+)` \|(?:.* \|)? (0\.\d+) \|$", re.MULTILINE)
EXTERNAL = ("https://", "http://", "mailto:")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_link_targets_exist(path: Path) -> None:
    for link in links(path.read_text(encoding="utf-8")):
        if link.target.startswith(EXTERNAL):
            continue
        target = path.parent / link.file if link.file else path
        assert target.exists(), link
        assert target.resolve().is_relative_to(ROOT), link
        if link.fragment and link.line is None:
            assert link.fragment in headings(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_into_the_code_have_the_right_line(path: Path) -> None:
    assert corrected(path) == path.read_text(encoding="utf-8"), "lines have moved: `make links` corrects the links"


def test_a_link_names_a_definition_or_quotes_a_line(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("X = 1\n\nclass A:\n    size = 2\n\n    def b(self):\n        return X\n")
    assert [line_of(code, text, 1) for text in ("`X`", "`A`", "`A.size`", "`A.b`", "`return X`")] == [1, 3, 4, 6, 7]
    with pytest.raises(ValueError, match="in 0 lines"):
        line_of(code, "`nothing`", 1)
    with pytest.raises(ValueError, match="in 2 lines"):
        line_of(code, "`= `", 2)


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_document_is_reachable_from_the_readme(path: Path) -> None:
    seen, coming = set[Path](), [ROOT / "README.md"]
    while coming:
        document = coming.pop()
        if document not in seen and document.suffix == ".md":
            seen.add(document)
            targets = [link.file for link in links(document.read_text(encoding="utf-8"))]
            found = [(document.parent / file).resolve() for file in targets if file and not file.startswith(EXTERNAL)]
            coming += [file for file in found if file.exists()]
    assert path in seen


def _parsed(arguments: list[str]) -> None:
    try:
        _parser().parse_args(arguments)
    except SystemExit as stop:
        if stop.code:
            pytest.fail(f"wordlight {shlex.join(arguments)}: this is not a command")


def test_the_lecture_and_the_family_page_have_the_same_figures() -> None:
    shown, measured = (
        dict(FAMILY_ROW.findall((ROOT / name).read_text(encoding="utf-8")))
        for name in ("docs/lecture.md", "docs/family.md")
    )
    assert len(shown) == 9
    assert shown == measured


def test_the_examples_of_the_training_page_are_valid(tmp_path: Path) -> None:
    blocks = [block for blocks in sections(ROOT / "docs/training.md").values() for block in blocks]
    (recipe,) = [block.text for block in blocks if block.language == "toml"]
    (listed,) = [block.text for block in blocks if block.text.startswith("file,caption\n")]
    (tmp_path / "mine.toml").write_text(recipe)
    assert Recipe.load(str(tmp_path / "mine.toml")).captioner.name == "mine"
    (tmp_path / "captions.csv").write_text(listed)
    assert [len(one.captions) for one in read_list(tmp_path / "captions.csv")] == [2, 1]


def programs() -> list[str]:
    """Return the commands in all documents that run a program of `.venv`."""
    return [
        command.line
        for path in DOCUMENTS
        for blocks in sections(path).values()
        for block in blocks
        if block.language == "console"
        for command in commands(block.text)
        if ".venv/bin/" in command.line
    ]


@pytest.mark.parametrize("line", sorted(set(programs())))
def test_documented_commands_exist(line: str) -> None:
    words = shlex.split(line.replace("$(", " ").replace(")", " "), comments=True)
    start = next(number for number, word in enumerate(words) if word.startswith(".venv/bin/"))
    program, *arguments = takewhile(lambda word: word not in (">", "|", "&"), words[start:])
    if program.endswith("/wordlight"):
        _parsed(arguments)
        if arguments[0] == "bench":
            arguments = arguments[1:]
            names = arguments[: next((n for n, word in enumerate(arguments) if word.startswith("-")), len(arguments))]
            assert all((ROOT / f"benchmarks/{name}.py").is_file() for name in names)
    elif program.endswith("/python") and arguments[0].endswith(".py"):
        source = (ROOT / arguments[0]).read_text(encoding="utf-8")
        for option in (word for word in arguments if word.startswith("--")):
            assert f'"{option}"' in source, option
    else:
        assert program.rpartition("/")[2] in ("python", "pip", "ruff", "mypy"), line
