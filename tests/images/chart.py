#!/usr/bin/env python3
"""Puts the image of charts/cridge into a registry's folder, OUT, as cridge:TAG: what dist/Dockerfile has, out of this
machine's own programs. cridge comes without what only debuggers read, and its last bytes are TAG, so that each tag has
a version of its own.

usage: chart.py --kubectl FILE --cridge FILE --unit FILE OUT TAG
needs: strip, and the programs below
"""

import argparse
import pathlib
import shutil
import subprocess
import tempfile

from build import OCI, PATH, Storage, Tree

# What the script of the chart's pods starts.
PROGRAMS = "bash cat cmp date dirname find grep install jq mkdir mv nsenter rm sed sleep touch".split()


def programs(kubectl):
    tree = Tree()
    for folder in ("proc", "sys", "dev", "etc", "root"):
        tree.folder(folder)
    tree.folder("tmp", 0o1777)
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is None:
            raise SystemExit(f"chart.py: {name} is not on this machine")
        tree.program(found, "bin/" + name)
    tree.program(kubectl, "bin/kubectl")
    return tree.layer("plain")


def files(cridge, unit, tag):
    tree = Tree()
    with tempfile.NamedTemporaryFile() as small:
        subprocess.check_call(["strip", "-o", small.name, cridge])
        tree.file("opt/cridge/cridge", pathlib.Path(small.name).read_bytes() + tag.encode(), 0o755)
    tree.file("opt/cridge/cridge.service", unit.read_bytes())
    return tree.layer("plain")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--kubectl", "--cridge", "--unit"):
        parser.add_argument(name, type=pathlib.Path, required=True)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("tag")
    args = parser.parse_args()
    layers = [programs(args.kubectl), files(args.cridge, args.unit, args.tag)]
    Storage(args.out).image("library/cridge", [args.tag], layers, {"Env": [PATH], "Cmd": ["bash"]}, OCI)


if __name__ == "__main__":
    main()
