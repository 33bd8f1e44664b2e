"""Makes `clusterstack` runnable from the virtual environment that runs this, straight from the sources.

A path file stands in for an editable install, which would need a build backend that no lock file covers.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("clusterstack", "kubectl-clusterstack")
SCRIPT = """\
#!{python}
import sys

from clusterstack.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
"""


def main() -> int:
    """Writes the path file and the commands. Fails outside a virtual environment."""
    if sys.prefix == sys.base_prefix:
        print(f"{sys.executable} is not in a virtual environment; run: make setup", file=sys.stderr)
        return 1
    Path(sysconfig.get_path("purelib"), "clusterstack.pth").write_text(f"{ROOT / 'operator'}\n")
    for name in COMMANDS:
        command = Path(sys.executable).parent / name
        command.write_text(SCRIPT.format(python=sys.executable))
        command.chmod(0o755)
    return 0


if __name__ == "__main__":
    sys.exit(main())
