"""Names of weights in files of version 1 and in archives.

Version 0.1 named a weight by the parts that its modules were made of. Model folders of format version 1 have these
names, and an archive holds weights in their order.
"""

import re

__all__ = ["version_1_name"]

RULES = (
    (r"^network\.", ""),
    (r"^pyramid\.", "scales."),
    (r"\btrunk\.blocks\.(\d+)\.core\.(reduce|convolve)\.", r"trunk.parts.block\1.parts.core.parts.\2."),
    (r"\btrunk\.blocks\.(\d+)\.", r"trunk.parts.block\1.parts."),
    (r"\btrunk\.skips\.(\d+)\.", r"trunk.parts.skip\1."),
    (r"\btrunk\.head\.(\d+)\.", r"trunk.parts.head\1."),
    (r"\btrunk\.(stem|logits)\.", r"trunk.parts.\1."),
)


def version_1_name(name: str) -> str:
    """What version 0.1 called a weight of a model's `state_dict`."""
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return name
