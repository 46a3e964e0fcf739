"""Posted patches: mails, mbox files, public-inbox archives, and what becomes of them."""

from __future__ import annotations

import gzip
from email.message import EmailMessage
from pathlib import Path

import pytest
from support.repository import GitRepository, fan_history

from kagent.commits import CommitIndex, CrashQuery, open_indexes
from kagent.commits.mail import Posting, newest_versions, parse_mail, read_mbox
from kagent.errors import InputError, MissingDataError

DIFF = """\
diff --git a/drivers/hwmon/fan.c b/drivers/hwmon/fan.c
--- a/drivers/hwmon/fan.c
+++ b/drivers/hwmon/fan.c
@@ -10,4 +10,5 @@ static int fan_probe(struct fan *fan)
 {
+\tmutex_init(&fan->lock);
 \treturn fan_start(fan);
 }
"""


def mail(
    subject: str,
    body: str,
    *,
    number: int = 1,
    sender: str = "Ada Example <ada@example.org>",
    charset: str = "utf-8",
) -> bytes:
    message = EmailMessage()
    message["From"] = sender
    message["Subject"] = subject
    message["Date"] = f"Mon, {number:02} Jan 2024 10:00:00 +0100"
    message["Message-ID"] = f"<{number}.fan@example.org>"
    message.set_content(body, charset=charset)
    return message.as_bytes()


def patch_mail(subject: str, *, number: int = 1, why: str = "It was forgotten.") -> bytes:
    body = (
        f'{why}\n\nFixes: 0123456789ab ("x")\n---\n drivers/hwmon/fan.c | 1 +\n\n{DIFF}-- \n2.43\n'
    )
    return mail(subject, body, number=number)


def mbox(path: Path, *mails: bytes) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        for one in mails:
            file.write(b"From mboxrd@z Thu Jan  1 00:00:00 1970\n")
            file.writelines(
                b">" + line if line.lstrip(b">").startswith(b"From ") else line
                for line in one.splitlines(keepends=True)
            )
            file.write(b"\n")
    return path


def inbox(path: Path, *epochs: tuple[bytes, ...]) -> Path:
    """An archive as public-inbox writes it: each commit replaces the one file ``m``."""
    for number, mails in enumerate(epochs):
        repository = GitRepository(path / "work" / str(number))
        for one in mails:
            head = one.partition(b"\n\n")[0].decode()
            subject = next(x for x in head.splitlines() if x.startswith("Subject: "))
            repository.commit(subject.removeprefix("Subject: ") + "\n", {"m": one})
        target = path / "git" / f"{number}.git"
        target.parent.mkdir(exist_ok=True)
        repository.git("clone", "-q", "--bare", ".", str(target))
    return path


def test_a_patch_is_read_as_git_would_apply_it() -> None:
    commit = parse_mail(patch_mail("[PATCH v2 net 1/3] hwmon: fan: init the lock"))
    assert commit is not None
    assert commit.hash == "1.fan@example.org"
    assert commit.subject == "hwmon: fan: init the lock"
    assert commit.author == "Ada Example <ada@example.org>"
    assert commit.date == "2024-01-01T10:00:00+01:00"
    assert commit.message == 'It was forgotten.\n\nFixes: 0123456789ab ("x")'
    assert commit.fixes == ("0123456789ab",)
    assert commit.files == ("drivers/hwmon/fan.c",)
    assert commit.functions == ("fan_probe",)
    assert commit.diff == DIFF.rstrip("\n")


def test_headers_in_the_body_go_before_those_of_the_mail() -> None:
    body = f"From: Grace Example <grace@example.org>\nSubject: fan: real\n\nText.\n---\n{DIFF}"
    commit = parse_mail(mail("[PATCH] fan: forwarded", body))
    assert commit is not None
    assert (commit.author, commit.subject) == ("Grace Example <grace@example.org>", "fan: real")
    assert commit.message == "Text."


def test_encodings_and_patches_without_a_git_header() -> None:
    body = (
        "Größe.\n---\n--- linux/mm/a.c\n+++ linux/mm/a.c\n@@ -1 +1 @@ int f(void)\n-x\n+grow(z)\n"
    )
    commit = parse_mail(mail("[patch] mm: größe", body, charset="iso-8859-1"))
    assert commit is not None
    assert (commit.subject, commit.message) == ("mm: größe", "Größe.")
    assert commit.identifiers == ("grow",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Message-ID: <a@b>\n\nno diff here\n",
        b"Message-ID: <a@b>\nContent-Type: text/html\n\n" + DIFF.encode(),
        b"Message-ID: <a@b>\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\xff\n",
    ],
)
def test_mails_without_a_patch(data: bytes) -> None:
    assert parse_mail(data) is None


def test_what_format_patch_writes_has_no_message_id() -> None:
    commit = parse_mail(b"Subject: [PATCH] x: y\n\nWhy.\n---\n" + DIFF.encode())
    assert commit is not None
    assert commit.hash.startswith("patch:")


def test_hostile_mails_are_read_somehow() -> None:
    head = b"Message-ID: <a@b>\nDate: Mon, 99 Foo 9999\nSubject: =?nonsense?Q?=ff?= [PATCH]\n"
    charset = b"Content-Type: text/plain; charset=no-such\n\n"
    commit = parse_mail(head + charset + b"\xff\n---\n" + DIFF.encode() + b"x" * 3_000_000)
    assert commit is not None
    assert commit.truncated
    assert commit.date == ""


def test_the_newest_version_of_each_patch_counts() -> None:
    def of(subject: str, time: float = 0.0, sender: str = "a@b") -> Posting:
        return Posting(subject, sender, time)

    postings = [
        of("[PATCH v3] fan: one", 1.0),
        of("[PATCH] fan: one", 2.0),
        of("[PATCH v2 1/2] fan: two"),
        of("Re: [PATCH v9] fan: one", 3.0),
        of("[PATCH RESEND v2 1/2] fan: two", 5.0),
        of("[RFC PATCH] fan: one", 9.0, "other@b"),
        of("fan: talk"),
    ]
    assert newest_versions(postings) == [0, 4, 5]


def test_an_mbox_gives_its_patches(tmp_path: Path) -> None:
    path = mbox(
        tmp_path / "fan.mbox.gz",
        patch_mail("[PATCH] hwmon: fan: init the lock", number=1),
        mail("Re: [PATCH] hwmon: fan: init the lock", "From what I see, fine.\n", number=2),
        patch_mail("[PATCH v2] hwmon: fan: init the lock", number=3, why="From here on\nit works."),
        patch_mail("[PATCH] hwmon: fan: stop in time", number=4),
        mail("[PATCH 0/2] cover", "No patch.\n", number=5),
    )
    assert len(list(read_mbox(path))) == 5
    with CommitIndex.build(path, tmp_path / "index") as index:
        assert [c.hash for c in index.commits()] == ["3.fan@example.org", "4.fan@example.org"]
        assert next(index.commits()).message.startswith("From here on")
        hit = index.search("init the lock of a fan in fan_probe")[0]
        assert (hit.hash, hit.posted) == ("3.fan@example.org", True)
        assert hit.link == "https://lore.kernel.org/r/3.fan@example.org"
        assert hit.why[0] == f"a fix is on the list, not merged yet: {hit.link}"
        assert index.stats()["posted"] == 2


def test_what_is_no_mbox(tmp_path: Path) -> None:
    path = tmp_path / "x.mbox"
    with pytest.raises(MissingDataError, match="no such"):
        list(read_mbox(path))
    path.write_bytes(b"hello\n")
    with pytest.raises(InputError, match="no mbox"):
        CommitIndex.build(path, tmp_path / "index")
    (tmp_path / "plain.txt").write_text("hello\n")
    with pytest.raises(InputError, match="not a source of commits"):
        CommitIndex.build(tmp_path / "plain.txt", tmp_path / "index")


def test_a_public_inbox_grows_and_replaces_versions(tmp_path: Path) -> None:
    first = patch_mail("[PATCH] hwmon: fan: init the lock", number=1)
    path = inbox(tmp_path / "lore", (first,), (patch_mail("[PATCH] fan: stop in time", number=2),))
    out = tmp_path / "index"
    with CommitIndex.build(path, out) as index:
        assert sorted(c.hash for c in index.commits()) == ["1.fan@example.org", "2.fan@example.org"]
        assert set(index.stats()["sources"][0]["heads"]) == {"0.git", "1.git"}
        work = GitRepository.__new__(GitRepository)
        work.path, work.day = path / "work" / "1", 9
        subject = "[PATCH v2] hwmon: fan: init the lock"
        work.commit(f"{subject}\n", {"m": patch_mail(subject, number=3)})
        work.git("push", "-q", str(path / "git" / "1.git"), "HEAD:main")
        assert index.update() == 1
        assert index.stats()["superseded"] == 1
        hashes = [hit.hash for hit in index.search("init the lock of a fan", 10)]
        assert "3.fan@example.org" in hashes
        assert "1.fan@example.org" not in hashes
        assert index.verify() == []
    with CommitIndex.build(path / "git" / "0.git", tmp_path / "one") as index:
        assert [c.hash for c in index.commits()] == ["1.fan@example.org"]


def test_a_merged_patch_steps_back_for_its_commit(tmp_path: Path) -> None:
    repository, fix = fan_history(tmp_path / "repo", others=3)
    CommitIndex.build(repository.path, tmp_path / "mainline").close()
    with CommitIndex.open(tmp_path / "mainline") as index:
        merged = index.get(fix)
    assert merged is not None
    body = f"{merged.message}\n---\n{merged.diff}\n"
    lists = mbox(
        tmp_path / "hwmon.mbox",
        mail(f"[PATCH v3] {merged.subject}", body, number=1),
        mail("[PATCH] hwmon: fan: other words for it", body, number=2),
        patch_mail("[PATCH] hwmon: fan: init the lock of fan_curve_lookup", number=3),
    )
    CommitIndex.build(lists, tmp_path / "hwmon").close()
    query = CrashQuery(
        title="BUG: NULL pointer in fan_curve_lookup", functions=("fan_curve_lookup",)
    )
    with open_indexes([tmp_path / "hwmon", tmp_path / "mainline"]) as both:
        hits = both.search_crash(query, 5)
        assert [hit.hash for hit in hits].count(fix) == 1
        best = hits[0]
        assert (best.hash, best.posted) == (fix, False)
        posted = "was posted as https://lore.kernel.org/r/1.fan@example.org"
        assert any(posted in hit.why or "also as" in " ".join(hit.why) for hit in hits)
        waiting = [hit for hit in hits if hit.posted]
        assert [hit.hash for hit in waiting] == ["3.fan@example.org"]
        assert waiting[0].index == "hwmon"
        assert both.get(fix[:12]) == merged
    with CommitIndex.merge([tmp_path / "hwmon", tmp_path / "mainline"], tmp_path / "all") as index:
        assert [h.hash for h in index.search_crash(query, 1)] == [fix]
        assert index.stats()["commits"] == 10
        assert len(index.stats()["sources"]) == 2
