"""What pointer values say about their history."""

import pytest

from kagent.diagnosis.meaning import pointer_meaning, shadow_range


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (0x0, "null", "NULL"),
        (0x1C, "null", "NULL + 0x1c"),
        (-12, "errptr", "-ENOMEM"),
        (-517, "errptr", "-EPROBE_DEFER"),
        (0xDEAD000000000100, "list-poison", "LIST_POISON1"),
        (0xDEAD000000000122, "list-poison", "LIST_POISON2"),
        (0xDEAD000000000108, "list-poison", "+0x8"),
        (0x6B6B6B6B6B6B6B73, "freed", "0x6b"),
        (0x5A5A5A5A5A5A5A5A, "uninitialised", "0x5a"),
        (0xA5A5A5A5A5A5A5A5, "redzone", "0xa5"),
        (0xDFFFFC0000000003, "shadow", "NULL + 0x18..0x1f"),
        (0x6D616E656C69662F, "text", "/filenam"),
        (0x00007FFC95E5EBD8, "user", "user-space"),
        (0xDEAD4EAD00000000, "poison", "SPINLOCK_MAGIC"),
        (0x0801DBA075880000, "non-canonical", "canonical"),
    ],
)
def test_known_values(value, kind, words):
    meaning = pointer_meaning(value & (1 << 64) - 1)
    assert meaning is not None
    assert meaning.kind == kind
    assert words in meaning.text


def test_a_kernel_address_needs_no_remark():
    assert pointer_meaning(0xFFFF888003CCB000) is None


def test_32_bit_error_pointers():
    meaning = pointer_meaning(0xFFFFFFEA, "arm")
    assert meaning is not None
    assert "-EINVAL" in meaning.text


@pytest.mark.parametrize(
    ("arch", "address"), [("x86_64", 0xDFFFFC0000000003), ("arm64", 0xDFFF800000000003)]
)
def test_shadow_of_small_addresses(arch, address):
    assert shadow_range(address, arch) == (0x18, 0x1F)


def test_mapped_memory_is_no_shadow():
    assert shadow_range(0xFFFF888003CCB000) is None
