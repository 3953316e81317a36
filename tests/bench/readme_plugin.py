"""The plug-in that methods/README.md shows."""

import re
from pathlib import Path

from methods import plugins

README = (Path(plugins.__file__).parent / "README.md").read_text()
(PLUGIN,) = re.findall(r"```python\n(# align_uniform\.py\n.*?)```", README, re.DOTALL)
