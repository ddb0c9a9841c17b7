"""Parses XML that is not trusted into a tree with line numbers, in any encoding that Python knows.

Expat decodes few encodings itself, so the text is decoded first. Document types are refused: they
can declare entities that expand endlessly or read other files.
"""

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FIRST_BYTES = (
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']\s*([\w.:-]+)\s*["']""")
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
"""What the usual programs write under these names, and browsers read."""


@dataclass
class Element:
    """An element with the line on which it begins."""

    tag: str
    line: int
    texts: list[str] = field(default_factory=list)
    children: list["Element"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts).strip()

    def child(self, tag: str) -> "Element | None":
        return next((child for child in self.children if child.tag == tag), None)


class MalformedXml(Exception):
    """A file that is not XML, or has a document type."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def parse_xml(path: Path, *, root: str) -> Element:
    """Parse a document and return its root, an element `root`; raises `MalformedXml`."""
    top = Element("", 0)
    stack = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, _attributes: dict[str, str]) -> None:
        element = Element(tag, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(_tag: str) -> None:
        stack.pop()

    def reject_doctype(*_declaration: object) -> None:
        raise MalformedXml(parser.CurrentLineNumber, "a document type (<!DOCTYPE>) is not allowed")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: stack[-1].texts.append(text)
    parser.StartDoctypeDeclHandler = reject_doctype
    try:
        parser.Parse(_decode(path.read_bytes()), True)
    except expat.ExpatError as error:
        raise MalformedXml(error.lineno, f"not XML: {expat.ErrorString(error.code)}") from error
    except (OSError, ValueError) as error:
        raise MalformedXml(1, str(error)) from error
    element = top.children[0]
    if element.tag != root:
        raise MalformedXml(element.line, f"its root element is <{element.tag}>, not <{root}>")
    return element


def _decode(content: bytes) -> str:
    """Decode a document by its byte order mark, its first bytes or its declaration."""
    encoding = _find_encoding(content)
    try:
        return content.decode(encoding)
    except LookupError as error:
        raise MalformedXml(1, f"the encoding {encoding!r:.60} is unknown") from error
    except UnicodeDecodeError as error:
        superset = _SUPERSETS.get(codecs.lookup(encoding).name)
        if superset is not None:
            return _decode_strictly(content, superset)
        raise _not_encoded(content, encoding, error) from error
    except UnicodeError as error:  # encodings that decode nothing, as "undefined"
        raise MalformedXml(1, f"it cannot be decoded as {encoding}: {error}") from error


def _decode_strictly(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _not_encoded(content, encoding, error) from error


def _not_encoded(content: bytes, encoding: str, error: UnicodeDecodeError) -> MalformedXml:
    message = (
        f"byte 0x{content[error.start]:02x} is not {encoding}, the encoding of the file by its "
        "first line; name the right one there, as in <?xml version='1.0' encoding='gbk'?>"
    )
    return MalformedXml(content.count(b"\n", 0, error.start) + 1, message)


def _find_encoding(content: bytes) -> str:
    for mark, encoding in (*_BYTE_ORDER_MARKS, *_FIRST_BYTES):
        if content.startswith(mark):
            return encoding
    match = _DECLARATION.match(content)
    name = "utf-8" if match is None else match[1].decode("ascii", "replace")
    # The declaration was readable as bytes, so the file is not in 16 or 32 bits as it says.
    return "utf-8" if re.match(r"(?i)(iso-10646-)?(utf|ucs)[-_]?(16|32|2|4)", name) else name
