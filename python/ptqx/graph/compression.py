"""gzip around a .ptqx file: entropy coding with what every system can undo.

Codes of weights have no repetitions, only frequencies; DEFLATE's Huffman codes come as near to their entropy
as zstd's strongest setting does, to within a percent.
"""

from __future__ import annotations

import zlib

from ..errors import PtqxError

SUFFIX = ".gz"
MAGIC = b"\x1f\x8b\x08"  # an odd header length to safetensors, which no plain file has
GZIP_FORMAT = 31  # zlib's wbits: a window of 32 KiB, header and checksum of gzip
MAX_EXPANSION = 32  # times the compressed size; networks of zeros alone would need more


def is_compressed(content: bytes) -> bool:
    return content.startswith(MAGIC)


def compressed(content: bytes) -> bytes:
    """The gzip file of `content`, without name and time: the same bytes for the same content.

    >>> expanded(compressed(b"ptqx" * 5))
    b'ptqxptqxptqxptqxptqx'
    """
    coder = zlib.compressobj(9, zlib.DEFLATED, GZIP_FORMAT, 9, zlib.Z_FILTERED)
    return coder.compress(content) + coder.flush()


def expanded(content: bytes) -> bytes:
    """What a gzip file holds; no more than 32 times its size is ever made.

    Raises:
        PtqxError: it would expand to more, is damaged or truncated, or is followed by other bytes.
    """
    limit = MAX_EXPANSION * len(content)
    decoder = zlib.decompressobj(GZIP_FORMAT)
    try:
        plain = decoder.decompress(content, limit + 1)
    except zlib.error as error:
        raise PtqxError(f"it is no valid gzip file: {error}") from error
    if len(plain) > limit:
        raise PtqxError(
            f"it would expand to more than {MAX_EXPANSION} times its size; if you trust it, gunzip it and "
            "load the plain file"
        )
    if not decoder.eof:
        raise PtqxError("it is truncated: the gzip data has no end")
    if decoder.unused_data:
        raise PtqxError(f"{len(decoder.unused_data)} bytes after the end of the gzip data")
    return plain
