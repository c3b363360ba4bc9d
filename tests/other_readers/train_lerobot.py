"""LeRobot's own tools join and cut datasets, and train a policy for three steps; in build/lerobot.

python train_lerobot.py FOLDER ANOTHER WORK, or only the training: FOLDER POLICY, which is written
"""

import math
import sys
from pathlib import Path

import torch
from lerobot.configs.types import FeatureType
from lerobot.datasets import dataset_tools
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.utils import dataset_to_policy_features
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors

_STEPS = 3
_SMALL = {"dim_model": 64, "dim_feedforward": 64, "n_heads": 2, "n_encoder_layers": 1}


def opened(folder: Path, **options: object) -> LeRobotDataset:
    """A dataset on this disk."""
    return LeRobotDataset(f"local/{folder.name}", root=folder, video_backend="pyav", **options)


def edit(folder: Path, another: Path, work: Path) -> None:
    """Both in one, and then without the first episode."""
    one, two = opened(folder), opened(another)
    dataset_tools.merge_datasets([one, two], "local/joined", work / "joined")
    joined = opened(work / "joined")
    assert len(joined) == len(one) + len(two)
    assert joined[len(joined) - 1]["inphase.cycle"] == two[len(two) - 1]["inphase.cycle"]
    dataset_tools.delete_episodes(joined, [0], output_dir=work / "cut", repo_id="local/cut")
    assert len(opened(work / "cut")) == len(joined) - joined.meta.episodes[0]["length"]
    print(f"joined: {len(joined)} rows; cut: {len(opened(work / 'cut'))} rows")


def train(folder: Path, into: Path | None = None) -> None:
    """ACT, small, from nothing. Raises AssertionError where the loss is no number."""
    meta = opened(folder).meta
    features = dataset_to_policy_features(meta.features)
    output = {key: one for key, one in features.items() if one.type is FeatureType.ACTION}
    config = ACTConfig(
        input_features={key: one for key, one in features.items() if key not in output},
        output_features=output,
        pretrained_backbone_weights=None,
        device="cpu",
        chunk_size=8,
        n_action_steps=8,
        **_SMALL,
    )
    policy = ACTPolicy(config)
    before, after = make_pre_post_processors(config, dataset_stats=meta.stats)
    times = {"action": [index / meta.fps for index in config.action_delta_indices]}
    loader = torch.utils.data.DataLoader(
        opened(folder, delta_timestamps=times), batch_size=8, shuffle=True
    )
    optimizer = torch.optim.Adam(policy.parameters(), 1e-4)
    losses = []
    for batch, _ in zip(loader, range(_STEPS), strict=False):
        loss, _ = policy.forward(before(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert len(losses) == _STEPS
    assert all(map(math.isfinite, losses)), losses
    print(f"trained: losses {losses}")
    if into is not None:
        for part in (policy, before, after):
            part.save_pretrained(into)


if __name__ == "__main__":
    torch.manual_seed(1)
    if len(sys.argv) == 3:
        train(*map(Path, sys.argv[1:]))
    else:
        edit(*map(Path, sys.argv[1:4]))
        train(Path(sys.argv[1]))
