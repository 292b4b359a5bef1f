"""Build the wheel, install it into an empty environment, and run the demo there: what a new user does.

    python scripts/check_wheel.py            # about 10 minutes, 7 GB of disk for a while; needs the network
    python scripts/check_wheel.py --full     # the whole demo in place of the quick one

Nothing of the checkout is used but the wheel and `constraints.txt`: commands run in an empty folder.
"""

import argparse
import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path) -> None:
    """Run a command, show it and the time it took; where it fails, its exit code is ours."""
    print("$", *command, flush=True)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=clean)
    print(f"  {time.perf_counter() - start:.0f} s, exit code {done.returncode}", flush=True)
    if done.returncode:
        sys.exit(done.returncode)


def check(folder: Path, demo: list[str]) -> None:
    """Build, install and use the wheel in an empty folder."""
    venv.create(folder / "venv", with_pip=True)
    tools = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (tools / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "dist", ROOT, cwd=folder)
    (wheel,) = (folder / "dist").iterdir()
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB")
    run(*pip, "install", "--quiet", wheel, "-c", ROOT / "constraints.txt", cwd=folder)
    run(*pip, "check", cwd=folder)
    elsewhere = f"import tokred_sci; assert tokred_sci.__file__.startswith({str(folder.resolve())!r})"
    run(tools / "python", "-c", elsewhere, cwd=folder)
    run(tools / "tokred", "versions", cwd=folder)
    run(tools / "tokred", "demo", *demo, cwd=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="run the whole demo")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        check(Path(folder).resolve(), [] if args.full else ["--quick"])
    print("The wheel installs into an empty environment and runs the demo.")


if __name__ == "__main__":
    main()
