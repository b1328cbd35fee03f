"""Makes the page's fonts: python3 subset.py FOLDER, where FOLDER holds both npm packages, unpacked as inter/ and jetbrains-mono/."""

import io
import pathlib
import sys

from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

SIGNS = "–—‘’“”…·×−±°µ↑↓"
LETTERS = [*range(0x20, 0x7F), *range(0xA0, 0x100), *map(ord, SIGNS)]


def make(source, target, weights, features):
    font = instancer.instantiateVariableFont(TTFont(source), {"wght": weights})
    # The subsetter wants tables as they are in a file.
    font.flavor, file = None, io.BytesIO()
    font.save(file)
    font = TTFont(io.BytesIO(file.getvalue()))
    options = subset.Options()
    options.layout_features, options.hinting, options.name_IDs = features, False, [0, 1, 2, 13, 14]
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=LETTERS)
    subsetter.subset(font)
    font.flavor = "woff2"
    font.save(target)


packages, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
make(packages / "inter/files/inter-latin-wght-normal.woff2", here / "inter.woff2", (300, 650), ["kern", "tnum"])
make(packages / "jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2", here / "jetbrains-mono.woff2", 400, [])
