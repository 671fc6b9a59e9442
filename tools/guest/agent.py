"""The guest agent as it goes into guests: `python -m tools.guest.agent FILE.pyz`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipapp
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent.parent.parent / "agents"
MAIN: Final = "import sys\n\nfrom agents.guest.__main__ import main\n\nsys.exit(main())\n"


def sources() -> list[Path]:
    """The agent's files: its folder, and the package that it is in."""
    return [PACKAGE / "__init__.py", *sorted((PACKAGE / "guest").glob("*.py"))]


def lay_out(folder: Path) -> None:
    """Put the agent into a folder that any Python 3.9 or newer can run."""
    for source in sources():
        target = folder / "agents" / source.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (folder / "__main__.py").write_text(MAIN)


def archive(target: Path) -> None:
    """The same as one file."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        zipapp.create_archive(folder, target, interpreter="/usr/bin/env python3", compressed=True)


if __name__ == "__main__":
    archive(Path(sys.argv[1]))
