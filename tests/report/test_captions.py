"""Captions of any kind become short text that can be drawn or put into a page."""

import pytest

from helip.report.captions import MISSING, drawable, readable, wrapped


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a  cat\n\ton a mat ", "a cat on a mat"),
        ("null\0 bell\a \x1b[31mred\x1b[0m", "null bell [31mred[0m"),
        ("evil \u202etxt.exe\u202c", "evil txt.exe"),  # direction overrides would mirror the rest of the line
        ("lone \ud800 surrogate", "lone surrogate"),
        ("cafe\u0301", "café"),
        ("\U000f0000 private", "private"),
        ("price $5 and $6, 100 % \\frac", "price $5 and $6, 100 % \\frac"),
        ("", ""),
    ],
)
def test_drawable(caption, expected):
    assert drawable(caption) == expected


def test_glyphs_that_no_font_has_become_one_square_a_run():
    assert drawable("a \U00013000\U00013001\U00013002 b") == f"a {MISSING} b"  # Egyptian hieroglyphs


def test_endless_captions_are_cut_before_they_are_measured():
    assert len(drawable("word " * 100_000)) < 1000


def test_wrapping_keeps_words_whole_and_ends_with_an_ellipsis():
    # A width of 10 characters: "woman" + " firefighter" does not fit, nor does "firefighter" (11) on any line.
    assert wrapped("one two three", 10, 2, len) == ["one two", "three"]
    assert wrapped("one two three four five", 10, 2, len) == ["one two", "three fou…"]
    assert wrapped("woman firefighter", 10, 3, len) == ["woman", "firefighte", "r"]
    assert wrapped("", 10, 2, len) == []
    assert wrapped("aaa", 0.5, 2, len) == ["a", "…"]  # narrower than a letter: still ends


def test_no_line_is_wider_than_asked():
    text = "the quick brown fox jumps over supercalifragilisticexpialidocious dogs " * 3
    for width in range(3, 40):
        assert all(len(line) <= width for line in wrapped(text, width, 4, len))


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ("a  cat\n\ton\x00 a\x1b[31m mat", "a cat on a[31m mat"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud800 of one", "half of one"),
        ("👩\u200d🚒", "👩\u200d🚒"),
        ("x" * 300, "x" * 239 + "…"),
        ("y " * 10**6, ("y " * 120)[:239].rstrip() + "…"),
        ("\n" * 10**6 + "late", "…"),
        ("", ""),
    ],
)
def test_readable(caption, shown):
    assert readable(caption) == shown
    readable(caption).encode()
