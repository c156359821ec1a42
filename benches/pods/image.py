#!/usr/bin/env python3
"""Puts the large image of the benchmark into a docker-registry's storage: about
200 MB in layers of different sizes, of files that compress half as well as text.

usage: image.py OUT       OUT/storage is the registry's root folder
"""

import os
import pathlib
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/images"))
import build

# MB of each layer, and KB of each of its files.
LAYERS = [(80, 16000), (50, 2000), (40, 200), (20, 20), (8, 4), (2, 1)]
BLOCK = 4096


def content(size, chance):
    """Blocks of noise and blocks of text, in no order."""
    text = b"".join(b"%08x of %08x\n" % (n, size) for n in range(BLOCK // 21 + 1))[:BLOCK]
    blocks = (os.urandom(BLOCK) if chance.random() < 0.5 else text for _ in range(-(-size // BLOCK)))
    return b"".join(blocks)[:size]


def main():
    chance = random.Random(1)
    layers = []
    for number, (megabytes, kilobytes) in enumerate(LAYERS):
        tree = build.Tree()
        for file in range(megabytes * 1000 // kilobytes):
            tree.file(f"srv/{number}/{file % 50}/{file}", content(kilobytes * 1000, chance))
        layers.append(tree.layer())
    build.Storage(sys.argv[1]).image("cridge-bench/large", ["1"], layers, build.SHELL, build.OCI)


main()
