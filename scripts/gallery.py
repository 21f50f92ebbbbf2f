"""Make the pictures of docs/gallery.md anew, with the commands that the page shows.

    python scripts/gallery.py                       every picture that needs no training
    python scripts/gallery.py generated.png ...     these pictures, also those that need it

A picture belongs to the block of commands right above it, and is the file of its name that they write. Blocks that need
minutes of training stand below a comment `<!-- trains -->`. Commands are `unite-mm` and scripts of this folder, and run
in a folder of their own. Pictures are kept with 256 colours, a third of the size.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
IMAGES = ROOT / "docs" / "images"
_ENTRY = re.compile(
    r"(<!-- trains -->\n)?^```\n((?:(?!```).*\n)+)^```\n\n!\[[^\]]+\]\(images/([\w.-]+)\)", re.MULTILINE
)
_COLOURS = 256


@dataclass(frozen=True)
class Entry:
    """A picture of the page.

    Attributes:
        picture: name of its file.
        commands: what makes it, each as words, in their order.
        trains: whether they take minutes of training or more.
    """

    picture: str
    commands: tuple[tuple[str, ...], ...]
    trains: bool


def entries(text: str) -> list[Entry]:
    """The pictures of a page with the commands above them, in their order."""
    found = []
    for trains, block, picture in _ENTRY.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        found.append(Entry(picture, tuple(tuple(shlex.split(line, comments=True)) for line in lines), bool(trains)))
    return found


def make(entry: Entry, folder: Path, images: Path = IMAGES) -> Path:
    """Run the commands of a picture, and keep it.

    Args:
        entry: the picture.
        folder: where its commands run, and leave their other files.
        images: where the picture goes.

    Raises:
        RuntimeError: a command failed, or none wrote the picture.
    """
    for command in entry.commands:
        what, *words = command
        words = ["-m", "unite_mm", *words] if what == "unite-mm" else [str(ROOT / words[0]), *words[1:]]
        done = subprocess.run([sys.executable, *words], cwd=folder)
        if done.returncode:
            raise RuntimeError(f"{entry.picture}: exit code {done.returncode} of: {shlex.join(command)}")
    written = next(folder.rglob(entry.picture), None)
    if written is None:
        raise RuntimeError(f"{entry.picture}: its commands do not write it")
    with Image.open(written) as picture:
        small = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    small.save(images / entry.picture, optimize=True)
    return images / entry.picture


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the pictures of docs/gallery.md anew.")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="their names; all that need no training if none")
    asked = parser.parse_args().pictures
    known = entries(PAGE.read_text(encoding="utf-8"))
    if unknown := set(asked) - {entry.picture for entry in known}:
        parser.error(f"{PAGE.name} has no {', '.join(sorted(unknown))}: {', '.join(entry.picture for entry in known)}")
    for entry in known:
        if entry.picture in asked or (not asked and not entry.trains):
            with tempfile.TemporaryDirectory(prefix="gallery-") as folder:
                made = make(entry, Path(folder))
            print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
