"""Git repositories that nobody vouches for: the one way in which git is run."""

from __future__ import annotations

from kagent.repository.failures import GitError
from kagent.repository.place import is_bare, is_repository
from kagent.repository.runner import MAX_ERRORS, Directory, Output, Repository, arguments

__all__ = [
    "MAX_ERRORS",
    "Directory",
    "GitError",
    "Output",
    "Repository",
    "arguments",
    "is_bare",
    "is_repository",
]
