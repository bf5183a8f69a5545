"""MPS's released checkpoint, a pickled module, as a safetensors file, without running anything that it names.

python scripts/convert_mps.py MPS_overall_checkpoint.pth mps_overall.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rewards.mps_convert import convert


def main() -> None:
    """Converts, or says why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    try:
        convert(args.source, args.target)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(args.target)


if __name__ == "__main__":
    main()
