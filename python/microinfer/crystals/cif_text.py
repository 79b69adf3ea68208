"""The text of CIF files: data blocks with tags and values. Nothing of a file is ever evaluated."""

import math
import re
from pathlib import Path
from typing import Any


def parse_cif(path: Path) -> "list[DataBlock]":
    """Read the data blocks of a CIF file.

    Parameters
    ----------
    path : Path
        The file: UTF-8, UTF-16 or Latin-1, with any line ends.

    Raises
    ------
    ValueError
        If it is no CIF file.
    """
    import gemmi

    text = _decode(path.read_bytes())
    if not text.strip():
        raise ValueError(f"{path}: the file is empty")
    try:
        document = gemmi.cif.read_string(text, 0)
    except (ValueError, RuntimeError) as error:
        found = re.match(r"\w+:(\d+):\d+(?:\(\d+\))?: *(.*)", str(error), re.DOTALL)
        where = f"line {found[1]}: {found[2]}" if found else str(error)
        raise ValueError(f"{path}: not a readable CIF file (cut off?): {where}") from None
    blocks = [DataBlock(path, block) for block in document]
    if not blocks:
        raise ValueError(f"{path}: not a CIF file: it has no data_ block")
    return blocks


class DataBlock:
    """One data block.

    Attributes
    ----------
    path : Path
        Its file.
    name : str
        Its name.
    tags : dict of str to list of str
        Values by tag, the tags in lower case and with ``_`` where newer dictionaries have dots.
    """

    def __init__(self, path: Path, block: Any) -> None:
        import gemmi

        self.path, self.name = path, block.name
        self.tags: dict[str, list[str]] = {}
        for item in block:
            if item.loop is not None:
                tags, width = item.loop.tags, item.loop.width()
                for column, tag in enumerate(tags):
                    self._add(tag, [gemmi.cif.as_string(value) for value in item.loop.values[column::width]])
            elif item.pair is not None:
                self._add(item.pair[0], [gemmi.cif.as_string(item.pair[1])])

    @property
    def source(self) -> str:
        """File and block, for messages."""
        return f"{self.path}, block {self.name!r}"

    @property
    def has_atoms(self) -> bool:
        """Whether it lists atoms by fractional coordinates."""
        return bool(self.column("_atom_site_fract_x"))

    def _add(self, tag: str, values: list[str]) -> None:
        tag = tag.lower().replace(".", "_")
        if self.tags.setdefault(tag, values) != values and tag.startswith(_READ):
            raise ValueError(f"{self.source}: {tag} stands there twice, with different values: keep one")

    def column(self, *tags: str) -> list[str]:
        """Values of the first of these tags that says anything; unknown ones are empty."""
        for tag in tags:
            values = [
                "" if value.strip() in ("?", ".") else value.strip() for value in self.tags.get(tag, [])
            ]
            if any(values):
                return values
        return []

    def text(self, *tags: str) -> str:
        """First value of the first of these tags that says anything; empty where none does."""
        values = self.column(*tags)
        return values[0] if values else ""

    def number(self, text: str, what: str) -> float:
        """A value as a number; what it is stands in the error where it is none."""
        value = parse_number(text)
        if value is None:
            raise ValueError(f"{self.source}: {what} must be a number, got {text!r}")
        return value


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def parse_number(text: str) -> float | None:
    """A number with its standard uncertainty left out, or a fraction; None where the text is neither."""
    if found := re.fullmatch(r"([-+]?\d+)/(\d+)", text):
        return int(found[1]) / int(found[2]) if int(found[2]) else None
    found = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\(\d*\)?)?", text)
    value = float(found[1]) if found else math.nan
    return value if math.isfinite(value) else None


def meant_fraction(text: str) -> tuple[float, int] | None:
    """A coordinate and its number of decimals, 0 where it is exact; None where the text is no number.

    A rounded or cut third or sixth is meant as one: 0.3333, 0.667, 0.666.
    """
    value = parse_number(text)
    mantissa = re.match(r"[-+]?\d*\.(\d+)", text)
    if value is None or mantissa is None or "e" in text.lower():
        return None if value is None else (value, 0)
    decimals = len(mantissa[1])
    step = 10.0**-decimals
    sixth = round(value * 6) / 6
    if 2 <= decimals <= 8:
        meant = [round(sixth, decimals)] + ([math.trunc(sixth / step) * step] if decimals > 2 else [])
        if min(abs(value - number) for number in meant) < 0.01 * step:
            return sixth, decimals
    return value, decimals


_READ = ("_cell_", "_symmetry_", "_space_group_", "_atom_site_")
