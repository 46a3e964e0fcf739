"""Release strings of many vendors, read as far as they are sound."""

from __future__ import annotations

import pytest

from kagent.klog import parse_log
from kagent.klog.release import read_release, stated_kernels


@pytest.mark.parametrize(
    ("release", "version", "exact", "vendor"),
    [
        ("6.1.57", "6.1.57", True, None),
        ("6.10.0", "6.10", True, None),
        ("6.15.0-rc3", "6.15-rc3", True, None),
        ("6.8.5-301.fc40.x86_64", "6.8.5", True, "Fedora"),
        ("5.10.209-198.812.amzn2.x86_64", "5.10.209", True, "Amazon Linux"),
        ("5.15.153.1-microsoft-standard-WSL2", "5.15.153", True, "WSL"),
        ("6.12.41+deb13-amd64", "6.12.41", True, "Debian"),
        ("6.12.9+bpo-amd64", "6.12.9", True, None),
        ("5.15.123-android13-8-00010-gdeadbeef123", "5.15.123", True, "Android"),
        ("6.1.0-56-amd64", "6.1", False, "Debian"),
        ("6.1.0-56-cloud-amd64", "6.1", False, "Debian"),
        ("5.15.0-105-generic", "5.15", False, "Ubuntu"),
        ("6.5.0-1018-azure", "6.5", False, "Ubuntu"),
        ("6.5.13-1-pve", "6.5.13", False, "Proxmox"),
        ("5.14.0-427.el9.x86_64", "5.14", False, "Red Hat"),
        ("5.15.0-200.131.27.el8uek.x86_64", "5.15", False, "Oracle UEK"),
        ("5.14.21-150500.55.52-default", "5.14.21", False, "SUSE"),
    ],
)
def test_the_number_of_a_release(
    release: str, version: str, exact: bool, vendor: str | None
) -> None:
    found = read_release(release)
    assert (found.version, found.exact, found.vendor) == (version, exact, vendor)
    assert found.tag == f"v{version}"
    assert found.series == ".".join(version.split("-")[0].split(".")[:2])


@pytest.mark.parametrize(
    ("release", "build", "version"),
    [
        ("6.1.0-56-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-10-16)", "6.1.192"),
        (
            "5.15.0-105-generic",
            "#115-Ubuntu SMP Mon Apr 15 09:52:04 UTC 2024 (Ubuntu 5.15.0-105.115-generic 5.15.148)",
            "5.15.148",
        ),
    ],
)
def test_the_banner_names_what_the_release_hides(release: str, build: str, version: str) -> None:
    found = read_release(release, build)
    assert (found.version, found.exact) == (version, True)
    assert "patches of its own" in found.note


def test_builds_between_releases_are_not_exact() -> None:
    local = read_release("6.15.0-rc3-00123-gabcdef1234")
    assert (local.commit, local.exact) == ("abcdef1234", False)
    daily = read_release("6.16.0-next-20250801")
    assert (daily.next_day, daily.exact) == ("20250801", False)


@pytest.mark.parametrize("release", ["", "garbage", "-rc1", "v", "\0" * 9, "9" * 5000])
def test_what_is_no_release(release: str) -> None:
    found = read_release(release)
    assert (found.version, found.tag, found.series) == (None, None, None)
    assert found.note


@pytest.mark.parametrize(
    "line",
    [
        "[    0.000000] Linux version 6.1.57 (builder@host) (gcc 12) #1 SMP",
        "CPU: 1 PID: 90 Comm: tidecast Not tainted 6.1.57 #1  Debian 6.1.4-1",
        "CPU: 1 PID: 90 Comm: tidecast Tainted: G    B      O       6.1.57 #1",
        "      Not tainted 6.1.57 #1",
        "CPU: 0 PID: 1 Comm: sh Not tainted 6.1.57",
        "6.1.57 #1 Not tainted",
        "6.1.57 #1 SMP PREEMPT Tainted: G           O",
    ],
)
def test_lines_that_state_the_release(line: str) -> None:
    (found,) = stated_kernels(f"noise\n{line}\nmore\n".encode())
    assert (found.release, found.build_id) == ("6.1.57", None)
    assert found.at >= len("noise\n")


BUILD, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


def test_a_kernel_is_stated_once_for_each_stretch_of_the_log() -> None:
    log = b"Linux version 6.1.57 (x)\nNot tainted 6.1.57 #1\nLinux version 6.2.1 (x)\n"
    assert [kernel.release for kernel in stated_kernels(log)] == ["6.1.57", "6.2.1"]
    again = log + log
    assert [k.release for k in stated_kernels(again)] == ["6.1.57", "6.2.1"] * 2
    assert stated_kernels(b"no release here, nor in vmlinux-6.1.57\n") == ()


def test_the_build_id_behind_the_release() -> None:
    cpu = "CPU: 1 PID: 90 Comm: x Not tainted 6.1.57 #1 {}\n"
    log = ("Linux version 6.1.57 (x)\n" + cpu.format(BUILD) + cpu.format(OTHER)).encode()
    assert [kernel.build_id for kernel in stated_kernels(log)] == [BUILD, OTHER]
    report = "BUG: kernel NULL pointer dereference, address: 0000000000000018\n" + cpu
    (found,) = parse_log(report.format(BUILD)).reports
    assert (found.context.build_id, found.context.build) == (BUILD, "#1")
