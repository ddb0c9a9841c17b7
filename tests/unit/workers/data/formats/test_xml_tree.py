"""XML in the encodings that annotation programs write, and what is refused."""

import codecs
from pathlib import Path

import pytest

from workers.data.formats.xml_tree import MalformedXml, parse_xml

WORD = "魚"


def write_xml(path: Path, *, encoding: str, declared: str, word: str = WORD) -> Path:
    text = f'<?xml version="1.0" encoding="{declared}"?>\n<annotation>\n{word}</annotation>'
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "encoding",
    [
        *("Shift_JIS", "shift-jis", "cp932", "EUC-JP", "GB2312", "gbk", "GB18030", "big5", "utf8"),
        *("UTF8", "utf-8-sig", "utf-16", "UTF-16LE", "utf-16-be", "utf-32", "utf-32-le", "utf-7"),
    ],
)
def test_what_python_can_decode_is_read(tmp_path: Path, encoding: str) -> None:
    word = "中" if encoding == "GB2312" else WORD

    root = parse_xml(
        write_xml(tmp_path / "a.xml", encoding=encoding, declared=encoding, word=word),
        root="annotation",
    )

    assert (root.text, root.line) == (word, 2)


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("utf-8", "utf-16"), ("utf-8", "UCS-2"), ("gbk", "gb2312"), ("utf-8-sig", "gb2312")],
)
def test_a_declaration_that_is_not_quite_right_is_understood(
    tmp_path: Path, encoding: str, declared: str
) -> None:
    path = write_xml(tmp_path / "a.xml", encoding=encoding, declared=declared)

    assert parse_xml(path, root="annotation").text == WORD


def test_without_a_declaration_it_is_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{WORD}</annotation>", encoding="utf-8")

    assert parse_xml(path, root="annotation").text == WORD


def test_bytes_of_another_encoding_are_reported_with_line_and_advice(tmp_path: Path) -> None:
    path = write_xml(tmp_path / "a.xml", encoding="gbk", declared="utf-8")

    with pytest.raises(MalformedXml, match=r"0xf4 is not utf-8.*encoding='gbk'") as exc_info:
        parse_xml(path, root="annotation")

    assert exc_info.value.line == 3


@pytest.mark.parametrize("declared", ["klingon", "hex", "rot13", "undefined", "zlib"])
def test_what_decodes_no_text_is_refused(tmp_path: Path, declared: str) -> None:
    path = write_xml(tmp_path / "a.xml", encoding="utf-8", declared=declared)

    with pytest.raises(MalformedXml, match=declared):
        parse_xml(path, root="annotation")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-7", "shift_jis", "utf-32-be"])
def test_a_document_type_is_refused_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>'
    entity = '<!DOCTYPE a [<!ENTITY y SYSTEM "file:///etc/passwd">]><annotation>&y;</annotation>'
    (tmp_path / "a.xml").write_bytes((declaration + entity).encode(encoding))

    with pytest.raises(MalformedXml, match="DOCTYPE"):
        parse_xml(tmp_path / "a.xml", root="annotation")


def test_a_mark_alone_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(codecs.BOM_UTF16_LE)

    with pytest.raises(MalformedXml, match="no element found"):
        parse_xml(tmp_path / "a.xml", root="annotation")
