"""Rows of a recording of Rerun, by its own reader, for build/readers/bin/python.

Prints a JSON object: of each entity the values of a cycle, as lists of numbers or of words.
"""

import json
import sys
from collections import defaultdict
from typing import Any

from rerun.chunk import RrdReader

COLUMNS = ("Scalars:scalars", "TextLog:text")


def main() -> None:
    """One argument: the file."""
    found: dict[str, dict[int, list[Any]]] = defaultdict(dict)
    images: dict[str, int] = defaultdict(int)
    for chunk in RrdReader(sys.argv[1]).stream():
        batch = chunk.to_record_batch()
        names = batch.schema.names
        images[chunk.entity_path] += batch.num_rows * ("Image:buffer" in names)
        for name in COLUMNS:
            if name in names and "cycle" in names:
                cycles = batch.column("cycle").to_pylist()
                rows = zip(cycles, batch.column(name).to_pylist(), strict=True)
                for cycle, values in rows:
                    found[chunk.entity_path].setdefault(cycle, []).extend(values)
    print(json.dumps({"values": found, "images": {k: n for k, n in images.items() if n}}))


if __name__ == "__main__":
    main()
