"""A bare Git repository that starts as a copy of a directory and takes further commits."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Nothing of a developer's own Git settings may change what is committed.
_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "ClusterStack",
    "GIT_AUTHOR_EMAIL": "testbed@example.com",
    "GIT_COMMITTER_NAME": "ClusterStack",
    "GIT_COMMITTER_EMAIL": "testbed@example.com",
}


class GitRepository:
    """`bare` is what gets served or cloned; `worktree` is where changes are made before `commit`."""

    def __init__(self, bare: Path, *, branch: str = "main") -> None:
        self.bare, self.branch = bare, branch
        self.worktree = bare.with_suffix(".worktree")

    def create(self, source: Path | None = None) -> GitRepository:
        """Makes the repository anew, its first commit holding the files of `source`."""
        for folder in (self.bare, self.worktree):
            shutil.rmtree(folder, ignore_errors=True)
        self.bare.parent.mkdir(parents=True, exist_ok=True)
        _git("init", "--quiet", "--bare", "--initial-branch", self.branch, str(self.bare), cwd=self.bare.parent)
        _git("config", "uploadpack.allowFilter", "true", cwd=self.bare)
        if source is not None:
            shutil.copytree(source, self.worktree)
        else:
            self.worktree.mkdir()
        _git("init", "--quiet", "--initial-branch", self.branch, cwd=self.worktree)
        _git("remote", "add", "origin", str(self.bare), cwd=self.worktree)
        self.commit("Start")
        return self

    def adopt(self) -> GitRepository:
        """Takes further commits to a repository that is there already."""
        shutil.rmtree(self.worktree, ignore_errors=True)
        _git("clone", "--quiet", "--branch", self.branch, str(self.bare), str(self.worktree), cwd=self.bare.parent)
        return self

    def welcome(self, name: str, email: str) -> None:
        """Settles what a person would have to: `git commit` and `git push` then work in the worktree as they stand."""
        _git("config", "user.name", name, cwd=self.worktree)
        _git("config", "user.email", email, cwd=self.worktree)
        _git("config", f"branch.{self.branch}.remote", "origin", cwd=self.worktree)
        _git("config", f"branch.{self.branch}.merge", f"refs/heads/{self.branch}", cwd=self.worktree)

    def commit(self, message: str, changes: Mapping[str, str | None] | None = None) -> str:
        """Writes files (None removes one), commits everything, pushes, and returns the commit's hash."""
        for name, text in (changes or {}).items():
            path = self.worktree / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        _git("add", "--all", "--force", cwd=self.worktree)
        _git("commit", "--quiet", "--allow-empty", "--message", message, cwd=self.worktree)
        _git("push", "--quiet", "--force", str(self.bare), f"HEAD:{self.branch}", cwd=self.worktree)
        return _git("rev-parse", "HEAD", cwd=self.worktree)

    def read(self, name: str) -> str:
        """A file as it is now, to be changed and given to `commit`."""
        return (self.worktree / name).read_text()


def _git(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, **_ENVIRONMENT}
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()
