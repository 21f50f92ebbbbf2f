"""A hook of the documentation site: links that leave `docs/` become plain text, for it holds these pages alone."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s:]+)\)")
FENCED = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Called by MkDocs with the text of every page."""
    known = {file.src_uri for file in files}
    folder, root = Path(page.file.abs_src_path).parent, Path(config.docs_dir)

    def outside(match: re.Match[str]) -> str:
        path = match[2].partition("#")[0]
        if not path:
            return match[0]
        target = (folder / path).resolve()
        inside = target.is_relative_to(root) and target.relative_to(root).as_posix() in known
        return match[0] if inside else match[1]

    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(outside, part) for part in parts)
