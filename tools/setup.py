"""Make .venv from requirements.lock, hashes verified; install the package, editable.

Usage: python tools/setup.py   (the Makefile does, when the lock is newer than .venv)
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 11), (3, 12), (3, 13))


def main() -> None:
    """Check the Python, then create and fill the environment."""
    if sys.version_info[:2] not in SUPPORTED:
        names = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
        sys.exit(
            f"This book runs on Python {names}; {sys.executable} is "
            f"{sys.version.split()[0]}. Name another one: make book PYTHON=python3.13"
        )
    folder = ROOT / ".venv"
    print("Setting up .venv, once: about a minute", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
    ]
    subprocess.run(
        [*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")], check=True
    )
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], check=True
    )
    (folder / "ready").touch()


if __name__ == "__main__":
    main()
