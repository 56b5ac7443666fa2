"""The description of a picture in XMP, as photo libraries read it: dc:description, in the language x-default.

In: an XMP packet, or none; out: one with the description. All else in it stays byte for byte, since nothing is written
anew but what is put between. It must not know where packets are kept.
"""

from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC: Final = "http://purl.org/dc/elements/1.1/"
_ROOT: Final = [f"{_RDF} RDF", f"{_RDF} Description", f"{_DC} description", f"{_RDF} Alt", f"{_RDF} li"]
_LANG: Final = "http://www.w3.org/XML/1998/namespace lang"
_DEFAULT: Final = "x-default"

_EMPTY: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f'<rdf:RDF xmlns:rdf="{_RDF}">\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>\n'
).encode()


class NotXmp(ValueError):
    """What is there is no XMP that could be added to. The message is one line."""


def description_in(packet: bytes) -> str:
    """The description that is there, in whatever language; "" for none. Raises NotXmp."""
    found = _Found(packet)
    return found.default.strip() or found.said.strip()


def with_description(packet: bytes | None, text: str) -> bytes:
    """The packet, or a new one, with this description in place of any other of x-default. Raises NotXmp."""
    packet = packet if packet is not None else _EMPTY
    found = _Found(packet)
    # It declares its own names, whatever others are called there.
    item = f'<rdf:li xmlns:rdf="{_RDF}" xml:lang="{_DEFAULT}">{escape(text)}</rdf:li>'
    element = f'<dc:description xmlns:rdf="{_RDF}" xmlns:dc="{_DC}"><rdf:Alt>{item}</rdf:Alt></dc:description>'
    if found.content:
        (start, end), new = found.content, escape(text)
    elif found.hollow:
        (start, end), new = found.hollow, item
    elif found.items:  # other languages only; the default comes first
        start, end, new = found.items, found.items, item
    elif found.element:
        (start, end), new = found.element, element
    else:
        start = end = found.end
        about = quoteattr(found.about)  # the same for all descriptions of one thing
        new = f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about={about}>{element}</rdf:Description>\n'
    return packet[:start] + new.encode() + packet[end:]


class _Found:
    """Where in a packet a description is, in bytes, and what it says."""

    def __init__(self, packet: bytes) -> None:
        """Raises NotXmp."""
        self.end = -1  # of what is in rdf:RDF
        self.about = ""
        self.said = self.default = ""  # in all languages; in x-default
        self.element: tuple[int, int] | None = None  # dc:description
        self.items: int | None = None  # the beginning of what is in its rdf:Alt
        self.content: tuple[int, int] | None = None  # of the item x-default
        self.hollow: tuple[int, int] | None = None  # that item, where it is an empty tag
        self._packet = packet
        self._open: list[tuple[str, int, bool]] = []  # elements: name, where they start, whether they are x-default
        self._parser = parser = expat.ParserCreate("utf-8", " ")
        parser.StartElementHandler, parser.EndElementHandler = self._begin, self._finish
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = self._read, _no_doctype
        parser.XmlDeclHandler = _only_utf8
        if packet.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise NotXmp("this is XMP in UTF-16, which is not written here")
        try:
            parser.Parse(packet, True)
        except expat.ExpatError as error:
            raise NotXmp(f"this is no XMP: {error}") from error
        if self.end < 0:
            raise NotXmp("this is no XMP to which a description could be added")

    @property
    def _path(self) -> list[str]:
        """The elements that are open, from rdf:RDF on."""
        names = [name for name, _, _ in self._open]
        return names[names.index(_ROOT[0]) :] if _ROOT[0] in names else []

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        at = self._parser.CurrentByteIndex
        self._open.append((name, at, attributes.get(_LANG) == _DEFAULT))
        path = self._path
        if path == _ROOT[:2]:
            self.about = self.about or attributes.get(f"{_RDF} about", "")
            if f"{_DC} description" in attributes:
                raise NotXmp("the description there is not written as XMP has it")
        elif path == _ROOT[:4] and not self._is_empty(at):
            self.items = self._behind(at)

    def _finish(self, _name: str) -> None:
        at, path = self._parser.CurrentByteIndex, self._path
        _, started, default = self._open.pop()
        empty = self._is_empty(started)  # then `at` is behind it
        if path == _ROOT[:1] and not empty:
            self.end = at
        elif path == _ROOT[:3]:
            if self.element:
                raise NotXmp("there are two descriptions")
            self.element = started, at if empty else self._behind(at)
        elif path == _ROOT and default:
            if empty:
                self.hollow = started, at
            else:
                self.content = self._behind(started), at

    def _read(self, text: str) -> None:
        path = self._path
        if path[:3] == _ROOT[:3]:
            self.said += text
            if path == _ROOT and self._open[-1][2]:
                self.default += text

    def _behind(self, tag: int) -> int:
        """Where the tag ends that begins there."""
        return self._packet.index(b">", tag) + 1

    def _is_empty(self, tag: int) -> bool:
        return self._packet[self._behind(tag) - 2 : self._behind(tag)] == b"/>"


def _only_utf8(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding and encoding.lower() not in ("utf-8", "us-ascii"):
        raise NotXmp(f"this is XMP in {encoding}, which is not written here")


def _no_doctype(*_: object) -> None:
    raise NotXmp("this is no XMP: it has a document type")
