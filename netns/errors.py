"""What can go wrong in the lab, by what the user can do about it."""

from __future__ import annotations


class LabError(Exception):
    """The lab can't do what was asked; the message says why and what would help."""

    exit_code = 1


class MissingError(LabError):
    """This machine lacks a privilege, a program or a kernel feature; the message says how to get it."""

    exit_code = 5


class Gone(LabError):
    """A node has no network now: its container has ended."""


class UnreachableError(LabError):
    """The box's API doesn't answer."""

    exit_code = 4
