"""Pictures that other commands leave beside a report's figures, as parts of the page."""

import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NEIGHBOURS, MAP = "neighbours", "feature-map"
CAPTIONS = {
    NEIGHBOURS: "test images and the training images nearest to them by cosine of frozen features; green: of the same "
    "class, red: of another",
    MAP: "maps of the test features (PCA, then t-SNE), coloured by class: only what lies together has a meaning, not "
    "how far apart",
    "preview": "images and the views that training makes of them",
}
PNG = b"\x89PNG\r\n\x1a\n"


def pictures(folder: Path) -> Iterator[dict[str, Any]]:
    """Those that lie in `folder`, as the page's template takes figures; a file that is no PNG is left out."""
    for name, caption in CAPTIONS.items():
        try:
            content = (folder / f"{name}.png").read_bytes()
        except OSError:
            continue
        if not content.startswith(PNG) or len(content) < 24:
            continue
        (wide,) = struct.unpack(">I", content[16:20])
        data = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        yield {"name": name, "caption": caption, "data": data, "width": wide // 2}  # drawn with 200 pixels an inch
