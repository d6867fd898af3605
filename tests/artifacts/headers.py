"""Headers and members of a tar, made by hand."""

END = bytes(1024)


def header(name: bytes, size: int | bytes, kind: bytes = b"0", prefix: bytes = b"", magic: bytes = b"ustar\x0000"):
    """512 bytes with a right checksum; `size` as a number or as its 12 raw bytes."""
    raw = bytearray(512)
    raw[: len(name)] = name
    raw[100:124] = b"0000644\x000000000\x000000000\x00"
    raw[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    raw[136:148] = b"00000000000\0"
    raw[156:157] = kind
    raw[257:265] = magic
    raw[345 : 345 + len(prefix)] = prefix
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)
