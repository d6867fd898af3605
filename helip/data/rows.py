"""What other programs know a row by, read from its shard."""

from helip.data.reader import SampleReader, Unreadable


def url_of(reader: SampleReader, row: int) -> str | None:
    """The `url` of the .json member; None where there is none, or none that is UTF-8."""
    try:
        url = reader.metadata(row).get("url")
        if not isinstance(url, str) or not url:
            return None
        url.encode("utf-8")  # JSON can hold halves of a character
        return url
    except (Unreadable, UnicodeError):
        return None


def caption_of(reader: SampleReader, row: int) -> str | None:
    """The caption, or the first of several; None where there is none."""
    try:
        return reader.captions(row)[0]
    except Unreadable:
        return None
