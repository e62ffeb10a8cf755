"""Drawings for the demonstration: one shape of one colour on a tinted ground, at rest or on its way."""

import random
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

SIDE, FRAMES = 64, 8  # pixels of images and videos, frames of a video
FINE = 3  # shapes are drawn so many times larger, for smooth edges
COLOURS = {  # hue in degrees, saturation and lightness in percent
    "红色": (0, 90, 45), "橙色": (28, 95, 52), "黄色": (55, 95, 50), "绿色": (120, 80, 36),
    "蓝色": (215, 90, 45), "紫色": (280, 75, 42), "粉色": (335, 90, 72), "黑色": (0, 0, 13),
}  # fmt: skip
SHAPES = ("圆形", "方形", "三角形", "五角星", "十字形", "心形", "菱形", "月牙形")
PLACES = {"左边": (0.0, 0.5), "右边": (1.0, 0.5), "上面": (0.5, 0.0), "下面": (0.5, 1.0), "中间": (0.5, 0.5)}
MOTIONS = {"向左移动": (-1, 0), "向右移动": (1, 0), "向上移动": (0, -1), "向下移动": (0, 1)}
LOOSE = 0.15  # places are so far from exact


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape about 0, 0 that reach as far as 1."""
    if shape == "圆形":
        return [(cos(2 * pi * i / 60), sin(2 * pi * i / 60)) for i in range(60)]
    if shape == "方形":
        return [(x, y) for x, y in ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))]
    if shape == "三角形":
        return [(sin(2 * pi * i / 3), -cos(2 * pi * i / 3)) for i in range(3)]
    if shape == "五角星":
        reach = [1.0, 0.42]
        return [(reach[i % 2] * sin(pi * i / 5), -reach[i % 2] * cos(pi * i / 5)) for i in range(10)]
    if shape == "十字形":
        arm = [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)]
        return arm + [(-x, -y) for x, y in arm]
    if shape == "菱形":
        return [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)]
    if shape == "月牙形":  # a circle without another one
        outer = [(cos(t), sin(t)) for t in np.linspace(0.28 * pi, 1.72 * pi, 40)]
        return outer + [(0.55 + 0.78 * cos(t), 0.78 * sin(t)) for t in np.linspace(1.54 * pi, 0.46 * pi, 40)]
    turns = [2 * pi * i / 60 for i in range(60)]  # a heart
    return [(sin(t) ** 3, -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 16) for t in turns]


class Scene:
    """One colour, shape, size and ground, to be drawn at several places."""

    def __init__(self, colour: str, shape: str, draw: random.Random, largest: float = 0.38):
        self.size = draw.uniform(0.24, largest)  # of SIDE, from the middle to the rim
        turn = draw.uniform(-0.15, 0.15)
        self.corners = [(x * cos(turn) - y * sin(turn), x * sin(turn) + y * cos(turn)) for x, y in _outline(shape)]
        hue, saturation, lightness = COLOURS[colour]
        hue, lightness = (hue + draw.randint(-7, 7)) % 360, lightness + draw.randint(-5, 5)
        self.colour = f"hsl({hue}, {saturation}%, {lightness}%)"
        self.ground = f"hsl({draw.randrange(360)}, {draw.randint(0, 60)}%, {draw.randint(78, 97)}%)"
        self.noise = np.random.default_rng(draw.randrange(1 << 30))

    def at(self, x: float, y: float) -> Image.Image:
        """Drawn with its middle at a share of what is free, 0 to 1 from the left and the top, under camera noise."""
        middle = [self.size + share * (1 - 2 * self.size) for share in (x, y)]
        points = [
            tuple(SIDE * FINE * (m + self.size * c) for m, c in zip(middle, corner, strict=True))
            for corner in self.corners
        ]
        sheet = Image.new("RGB", (SIDE * FINE, SIDE * FINE), self.ground)
        ImageDraw.Draw(sheet).polygon(points, fill=self.colour)
        small = np.asarray(sheet.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
        noisy = small + self.noise.normal(0, 6, small.shape)
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def image(colour: str, shape: str, place: str, draw: random.Random) -> Image.Image:
    """The shape about where it is said to be."""
    x, y = (min(1.0, max(0.0, at + draw.uniform(-LOOSE, LOOSE))) for at in PLACES[place])
    return Scene(colour, shape, draw).at(x, y)


def video(colour: str, shape: str, motion: str, draw: random.Random) -> list[Image.Image]:
    """The shape on its way from one side to the other, frame by frame."""
    scene, (right, down) = Scene(colour, shape, draw, 0.3), MOTIONS[motion]
    first, last, across = draw.uniform(0, 0.2), draw.uniform(0.8, 1), draw.uniform(0.5 - LOOSE, 0.5 + LOOSE)
    places = [first + (last - first) * i / (FRAMES - 1) for i in range(FRAMES)]
    places = [1 - place if right + down < 0 else place for place in places]
    frames = [scene.at(place, across) if right else scene.at(across, place) for place in places]
    return [frame.quantize(64, Image.Quantize.FASTOCTREE) for frame in frames]  # as GIF wants them
