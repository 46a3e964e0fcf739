"""Real crashes of known cause: the rules must agree with the truth on every point."""

import pytest
from benchmarks.crashlab import run

pytestmark = pytest.mark.integration


def test_modules_alone(crashlab, capsys):
    """Debug info of the modules only; the kernel's own frames stay without lines."""
    wrong = run(crashlab, None, [], verbose=True)
    assert wrong == 0, capsys.readouterr().out


@pytest.mark.kernel
def test_with_the_kernels_debug_info(crashlab, crashlab_vmlinux, capsys):
    wrong = run(crashlab, crashlab_vmlinux, [], verbose=True)
    assert wrong == 0, capsys.readouterr().out
