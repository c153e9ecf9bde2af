"""Clients of Go: builds client.go and becomes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).with_name("client.go")


def main() -> None:
    with TemporaryDirectory(prefix="l4lab-go-") as directory:
        binary = Path(directory, "client")
        subprocess.run(["go", "build", "-o", str(binary), str(SOURCE)], check=True)
        opened = os.open(binary, os.O_RDONLY)
    os.execve(opened, ["go-client", *sys.argv[1:]], os.environ)  # noqa: S606 - the file has no name any more


if __name__ == "__main__":
    main()
