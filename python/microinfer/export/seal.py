"""The seal at the end of an exported file: what the file is, and the checksum of all that stands before it.

Every exported file is a ZIP archive, and the seal its comment, which readers of ZIP archives pass over::

    microinfer export <version> <format> sha256 <64 hexadecimal digits>

The checksum covers every byte before its own digits. It finds damage; it does not prove where a file comes from.
"""

import hashlib
import struct
from pathlib import Path

VERSION = 2
"""Version of the exported files; readers refuse others."""

_END = b"PK\x05\x06"  # the end of a ZIP archive's directory: 22 bytes, the last two the length of the comment


def seal(path: Path, file_format: str) -> None:
    """Write the seal at the end of a ZIP archive.

    Parameters
    ----------
    path : Path
        The archive, without a comment.
    file_format : str
        The name of its format.

    Raises
    ------
    ValueError
        If the file does not end as an archive without a comment does.
    """
    text = f"microinfer export {VERSION} {file_format} sha256 ".encode()
    with path.open("r+b") as file:
        file.seek(-22, 2)
        end = file.read(22)
        if not (end.startswith(_END) and end.endswith(b"\x00\x00")):
            raise ValueError(f"{path}: not a ZIP archive without a comment")
        file.seek(-2, 2)
        file.write(struct.pack("<H", len(text) + 64) + text)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, 2)
        file.write(digest.encode())
