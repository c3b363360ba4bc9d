"""Reads a dataset by LeRobot's own loader, and prints what it gave as JSON; in build/lerobot.

python read_lerobot.py FOLDER BACKEND
"""

import json
import sys
from typing import Any

import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.utils import dataset_to_policy_features


def numbers(values: Any) -> list[float]:
    """Of a tensor."""
    return [float(one) for one in values.flatten()]


def main() -> None:
    """Every row of the dataset, and batches where the loader makes them."""
    folder, backend = sys.argv[1:3]
    dataset = LeRobotDataset("local/made", root=folder, video_backend=backend)
    last = dataset[len(dataset) - 1]
    policy = dataset_to_policy_features(dataset.features)
    cameras = dataset.meta.camera_keys
    found: dict[str, Any] = {
        "length": len(dataset),
        "episodes": dataset.num_episodes,
        "last": {"index": int(last["index"]), "task": last["task"]},
        "policy": {key: one.type.value for key, one in policy.items()},
        "rows": [],
    }
    for index in range(len(dataset)):
        item = dataset[index]
        found["rows"].append(
            {
                "cycle": int(item["inphase.cycle"]),
                "state": numbers(item["observation.state"]),
                "action": numbers(item["action"]) if "action" in item else None,
                "stamps": {
                    key: None if item[key] is None else int(item[key])
                    for key in item
                    if key.endswith("acquired_ns")
                },
                "pictures": {key: [*item[key].shape, float(item[key].mean())] for key in cameras},
            }
        )
    try:
        loader = torch.utils.data.DataLoader(dataset, batch_size=64)
        found["batches"] = sum(len(batch["index"]) for batch in loader)
    except TypeError as error:  # a null is in it
        found["batches"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
