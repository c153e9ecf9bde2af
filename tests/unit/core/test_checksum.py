"""Checksums against two independent judges: word-by-word addition, and scapy."""

from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from lb.core.checksum import adjust, checksum, difference

words = st.binary(min_size=2, max_size=64).map(lambda data: data[: len(data) // 2 * 2])


def added_word_by_word(data: bytes) -> int:
    """RFC 1071 §4.1 as it is written there."""
    total = 0
    for place in range(0, len(data), 2):
        total += int.from_bytes(data[place : place + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.binary(max_size=200))
@example(b"")
@example(b"\0")
@example(b"\0\0\0")
@example(b"\xff")
@example(b"\xff\xff")
@example(b"\xff\xff\xff\xff\x00\x01")
def test_checksum_is_the_one_of_rfc_1071_and_of_scapy(data: bytes) -> None:
    assert checksum(data) == added_word_by_word(data) == scapy_checksum(data)


def test_checksum_of_the_example_in_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001 f203 f4f5 f6f7")) == 0xFFFF - 0xDDF2


@given(st.binary(min_size=1, max_size=101))
def test_data_with_its_checksum_sums_up_to_zero(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    assume(any(padded))

    assert checksum(padded + checksum(padded).to_bytes(2, "big")) == 0


@given(before=words, old=words, new=words, after=words)
def test_adjusted_checksum_is_the_recomputed_one(before: bytes, old: bytes, new: bytes, after: bytes) -> None:
    new = new[: len(old)].ljust(len(old), b"\0")
    assume(any(before + old + after))
    assume(any(before + new + after))

    adjusted = adjust(checksum(before + old + after), difference(old, new))

    assert adjusted == checksum(before + new + after)


@given(words, st.lists(words, min_size=1, max_size=4))
def test_differences_add_up(data: bytes, changes: list[bytes]) -> None:
    assume(any(data))
    fixed = b"\x45\x00"
    delta, current = 0, data
    for change in changes:
        following = change[: len(data)].ljust(len(data), b"\0")
        delta += difference(current, following)
        current = following

    assert adjust(checksum(fixed + data), delta) == checksum(fixed + current)


def test_corner_of_rfc_1624_gives_plus_zero() -> None:
    """Its §4: the older formula of RFC 1141 gives 0xFFFF for this change, which fails verification."""
    assert adjust(0xDD2F, difference(b"\x55\x55", b"\x32\x85")) == 0x0000


@given(st.integers(0, 0xFFFF), words, words)
def test_adjusted_checksum_is_never_ffff(old: int, before: bytes, after: bytes) -> None:
    """Headers have bits that are not zero, so their sum is never 0 (RFC 1624 §3)."""
    assert 0 <= adjust(old, difference(before, after)) < 0xFFFF


def test_a_checksum_of_ffff_is_taken_for_the_zero_it_stands_for() -> None:
    """UDP sends 0xFFFF where it computed 0 (RFC 768): both stand for the same sum."""
    change = difference(b"\x12\x34", b"\x43\x21")

    assert adjust(0xFFFF, change) == adjust(0x0000, change)
