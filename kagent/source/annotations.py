"""What the compiler and the kernel add to plain C names: annotations and symbol suffixes."""

from __future__ import annotations

import re

__all__ = ["strip_suffixes", "without_annotations"]

# include/linux/compiler_types.h, compiler_attributes.h, init.h, linkage.h, noinstr and friends.
_BARE = re.compile(
    rb"\b(?:__(?:always_inline|always_unused|attribute_const__|bpf_kfunc|cold|cpuidle|deprecated"
    rb"|exit|flatten|force|head|hot|init|init_memblock|init_or_module|initconst|initdata|iomem"
    rb"|irq_entry|kprobes|latent_entropy|lockfunc|malloc|maybe_unused|meminit|must_check|naked"
    rb"|net_exit|net_init|noendbr|noreturn|noscs|no_kasan_or_inline|no_kcsan|no_kmsan_checks"
    rb"|no_profile|no_sanitize_address|no_sanitize_memory|no_sanitize_or_inline"
    rb"|no_sanitize_thread|no_stack_protector|packed|percpu|private|pure|rcu|randomize_layout"
    rb"|read_mostly|ref|refdata|ro_after_init|sched|softirq_entry|unused|used|user|visible|weak)"
    rb"|____cacheline_aligned(?:_in_smp)?|____cacheline_internodealigned_in_smp"
    rb"|asmlinkage|fastcall|nokprobe_inline|noinline(?:_for_stack|_for_kasan)?|noinstr|notrace)\b"
)
_WITH_ARGUMENTS = re.compile(
    rb"\b(?:__attribute__|__(?:acquires|acquires_shared|releases|releases_shared|must_hold"
    rb"|must_hold_shared|cond_acquires|guarded_by|printf|scanf|aligned|section|alloc_size"
    rb"|assume_aligned|counted_by|counted_by_le|counted_by_be|realloc_size|no_sanitize))"
    rb"[ \t]*\((?:[^()\n]|\([^()\n]{0,200}\)){0,400}\)"
)
_SUFFIX = re.compile(
    r"\.(?:isra|part|constprop|cold|llvm|lto_priv|kcfi|cfi|clone|localalias|warm)(?:\.\d+)*\Z"
    r"|\.\d+\Z",
    re.ASCII,
)


def strip_suffixes(symbol: str) -> str:
    """The source name of a symbol: without ``.isra.0``, ``.cold`` ..., and ``__pfx_``."""
    name = symbol.removeprefix("__pfx_")
    for _ in range(8):
        shorter = _SUFFIX.sub("", name)
        if shorter in (name, ""):
            break
        name = shorter
    return name


def without_annotations(raw: bytes) -> bytes:
    """Blank annotations, byte for byte: every position stays what it is."""
    return _BARE.sub(_blank, _WITH_ARGUMENTS.sub(_blank, raw))


def _blank(found: re.Match[bytes]) -> bytes:
    return re.sub(rb"[^\n]", b" ", found[0])
