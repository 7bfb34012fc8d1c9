"""Atomic writes, their drafts and symbolic links, files that are not regular, and the lock on a directory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncbn import files
from syncbn.files import directory_lock, open_regular, printable, write_atomically


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path, monkeypatch, failing):
    path = tmp_path / "run.npz"
    write_atomically(path, b"old")

    def fail(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(files.os, "fsync", fail)
    elif failing == "replace":
        monkeypatch.setattr(files.Path, "replace", fail)
    content = "text, not bytes" if failing == "write" else b"new"
    with pytest.raises((OSError, TypeError)):
        write_atomically(path, content)
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_a_killed_writer_left_is_removed(tmp_path, monkeypatch):
    path, other = tmp_path / "run[1].npz", tmp_path / "run1.npz"
    with monkeypatch.context() as patch:
        patch.setattr(files.Path, "unlink", lambda *_args, **_options: None)  # the dead clean up nothing
        patch.setattr(files.Path, "replace", lambda *_args: {}["dead"])
        for each in (path, path, other):
            with pytest.raises(KeyError):
                write_atomically(each, b"left")
    assert len(list(tmp_path.iterdir())) == 3
    write_atomically(path, b"new")
    (left,) = (p.name for p in tmp_path.iterdir() if p != path)
    assert left.startswith("run1.npz.")


def test_two_writers_at_once_damage_nothing(tmp_path):
    """A run that was started again meets a rank 0 that is not quite dead: each file is of one or the other."""
    path, size, stop = tmp_path / "run.npz", 1 << 20, threading.Event()

    def write(content):
        while not stop.is_set():
            write_atomically(path, content * size)

    write_atomically(path, b"0" * size)
    seen = set()
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, content) for content in (b"a", b"b")]
        for _ in range(100):
            stored = path.read_bytes()
            seen.add((len(stored), *set(stored)))
        stop.set()
    for writer in writers:
        writer.result()
    assert seen <= {(size, letter) for letter in b"0ab"}
    assert len(seen) > 1


def test_the_draft_of_a_living_writer_stays(tmp_path, monkeypatch):
    path, drafts = tmp_path / "run.npz", []
    fsync = os.fsync

    def write_the_file_meanwhile(descriptor):
        monkeypatch.setattr(files.os, "fsync", fsync)
        drafts.extend(other for other in tmp_path.iterdir() if other != path)
        write_atomically(path, b"of the other")
        assert all(draft.exists() for draft in drafts)
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", write_the_file_meanwhile)
    write_atomically(path, b"of this one")
    assert len(drafts) == 1
    assert path.read_bytes() == b"of this one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_that_another_writer_takes_for_a_stale_one_is_written_again(tmp_path, monkeypatch):
    """A draft exists for a moment before its writer has locked it."""
    path, removed = tmp_path / "run.npz", []
    flock = files.fcntl.flock

    def remove_before_the_lock(file, operation):
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()
        flock(file, operation)

    monkeypatch.setattr(files.fcntl, "flock", remove_before_the_lock)
    write_atomically(path, b"content")
    assert removed
    assert list(tmp_path.iterdir()) == [path]


def test_drafts_stay_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    """There the draft of a living writer could not be distinguished from that of a killed one."""
    path, draft = tmp_path / "run.npz", tmp_path / f"run.npz.{'0' * 16}.partial"
    draft.write_bytes(b"left")

    def fail(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", fail)
    write_atomically(path, b"content")
    with directory_lock(tmp_path):
        assert sorted(tmp_path.iterdir()) == [path, draft]
    monkeypatch.undo()
    write_atomically(path, b"content")
    assert list(tmp_path.iterdir()) == [path]


def test_only_drafts_are_removed(tmp_path):
    others = [
        tmp_path / name for name in ("run.npz.partial", "run.npz.mine.partial", "run.npz.bak", "run.npz.0.partial")
    ]
    for other in others:
        other.write_bytes(b"of the user")
    write_atomically(tmp_path / "run.npz", b"content")
    write_atomically(tmp_path / "run", b"content")
    assert all(other.read_bytes() == b"of the user" for other in others)


def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "far").mkdir()
    for target in (tmp_path / "far" / "old.npz", tmp_path / "far" / "new.npz"):
        if target.name == "old.npz":
            target.write_bytes(b"old")
        link = tmp_path / f"to-{target.name}"
        link.symlink_to(Path("far") / target.name)
        write_atomically(link, b"content")
        assert link.is_symlink()
        assert target.read_bytes() == b"content"
    assert len(list((tmp_path / "far").iterdir())) == 2
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(loop, b"content")
    assert loop.is_symlink()


def test_drafts_do_not_follow_links(tmp_path, monkeypatch):
    victim, draft = tmp_path / "victim", tmp_path / f"run.npz.{'0' * 16}.partial"
    victim.write_bytes(b"of the user")
    draft.symlink_to(victim)
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "0" * 2 * size)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "run.npz", b"content")
    assert victim.read_bytes() == b"of the user"


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_what_is_not_a_regular_file_is_neither_read_nor_replaced(tmp_path, kind):
    path = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    mode = path.stat().st_mode
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        open_regular(path)
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        write_atomically(path, b"content")
    assert path.stat().st_mode == mode
    assert list(tmp_path.iterdir()) == [path]


def test_a_locked_directory_names_its_holder(tmp_path):
    with directory_lock(tmp_path):
        code = (
            "import sys; from pathlib import Path; from syncbn.files import directory_lock; "
            "directory_lock(Path(sys.argv[1])).__enter__()"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert other.returncode == 1
        assert f"BlockingIOError: [Errno {errno.EAGAIN}] process {os.getpid()}: " in other.stderr
        with pytest.raises(BlockingIOError), directory_lock(tmp_path):
            pass
    with directory_lock(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_the_holder_of_a_lock_is_not_always_known(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCKS", tmp_path / "absent")
    with directory_lock(tmp_path), pytest.raises(BlockingIOError, match="another process"), directory_lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("α·β ± 3", "α·β ± 3"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\t\x7f\x9b", "a\\nb\\t\\x7f\\x9b"),
        ("left\u202eright", "left\\u202eright"),
        ("undecoded \udcff", "undecoded \\udcff"),
    ],
)
def test_control_characters_are_shown_as_text(text, shown):
    assert printable(text) == shown


def test_an_error_names_the_directory_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "missing" / "name", b"")
    assert caught.value.filename == str(tmp_path / "missing")
    with pytest.raises(IsADirectoryError) as caught:
        write_atomically(tmp_path, b"")
    assert caught.value.filename == str(tmp_path)
