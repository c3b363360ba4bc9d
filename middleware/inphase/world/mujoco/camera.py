"""Cameras of a MuJoCo world: which samples are rendered, and how."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.schedule.simulation_tables import WorldTable
from inphase.world.mujoco.knobs import Knobs


@dataclass(frozen=True)
class RenderedImage:
    """A sensor whose payload is rendered."""

    field: str
    camera: str
    depth: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    gain: float
    sample: np.dtype[Any]
    """layout of the whole sample"""


class Cameras:
    """The renderers of one model. Thread: always the same one, which its contexts belong to."""

    def __init__(self, mujoco: Any, model: Any, table: WorldTable, knobs: Knobs) -> None:
        self._mujoco, self._model, self._table, self._knobs = mujoco, model, table, knobs
        self._renderers: dict[tuple[int, int], Any] = {}
        self._shown: Any = None
        self.trouble: BaseException | None = None
        """what rendering a sample raised"""

    def render(self, image: RenderedImage, data: Any, payload: Any) -> int:
        """Render the present state into a sample; 0, or -1: see `trouble`.

        payload: a writable buffer of the sample's layout.
        """
        try:
            sample = np.frombuffer(payload, image.sample)
            sample[image.field][0][...] = self._draw(image, data)
        except BaseException as error:  # it is called from C, which cannot raise
            self.trouble = error
            return -1
        return 0

    def picture(self, camera: int, data: Any, height: int, width: int) -> NDArray[np.uint8]:
        """The view of a camera, -1: a free one; (height, width, 3). `data` stay as they are."""
        if self._shown is None:
            self._shown = self._mujoco.MjData(self._model)
        self._mujoco.mj_copyData(self._shown, self._model, data)
        self._mujoco.mj_forward(self._model, self._shown)
        renderer = self._renderer(height, width)
        renderer.disable_depth_rendering()
        self._set_scene(renderer, self._shown, camera)
        drawn: NDArray[np.uint8] = renderer.render().copy()
        return drawn

    def close(self) -> None:
        """End the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _draw(self, image: RenderedImage, data: Any) -> NDArray[Any]:
        height, width = image.shape[:2]
        renderer = self._renderer(height, width)
        if image.depth:
            renderer.enable_depth_rendering()
        else:
            renderer.disable_depth_rendering()
        self._set_scene(renderer, data, image.camera)
        drawn = renderer.render()
        if image.depth:
            scaled: NDArray[Any] = drawn * image.gain
            return np.rint(scaled) if image.dtype.kind == "u" else scaled
        if len(image.shape) == 2:  # luma of ITU-R BT.601, in whole numbers
            weights = np.array([77, 150, 29], np.uint32)
            drawn = ((drawn.astype(np.uint32) @ weights) >> 8).astype(np.uint8)
        wide: NDArray[Any] = drawn if image.dtype.itemsize == 1 else drawn.astype("<u2") * 257
        return wide

    def _set_scene(self, renderer: Any, data: Any, camera: str | int) -> None:
        renderer.update_scene(data, camera=camera)
        flags = self._mujoco.mjtRndFlag
        for name, wanted in (
            (flags.mjRND_SHADOW, self._table.shadows),
            (flags.mjRND_REFLECTION, self._table.reflections),
            (flags.mjRND_SKYBOX, self._table.skybox),
        ):
            renderer.scene.flags[name] = wanted

    def _renderer(self, height: int, width: int) -> Any:
        """One per size, made when it is first needed: it takes memory and a context."""
        if self._knobs.textures:
            self._hand_over_textures()
        if (height, width) not in self._renderers:
            visual = self._model.vis.global_
            visual.offwidth = max(visual.offwidth, width)
            visual.offheight = max(visual.offheight, height)
            self._renderers[height, width] = self._mujoco.Renderer(self._model, height, width)
        return self._renderers[height, width]

    def _hand_over_textures(self) -> None:
        """Renderers keep copies of the textures of their own."""
        for renderer in self._renderers.values():
            renderer._gl_context.make_current()
            for texture in self._knobs.textures:
                self._mujoco.mjr_uploadTexture(self._model, renderer._mjr_context, texture)
        self._knobs.textures.clear()
