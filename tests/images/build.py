#!/usr/bin/env python3
"""Makes the test images, out of the distribution's own binaries, in the form in
which the registry stores them: OUT/storage is a docker-registry's root folder,
OUT/images.json lists every image with its digests.

Names and contents are what the field's conformance tests ask for
(registry.k8s.io/…, gcr.io/k8s-staging-cri-tools/…, docker.io/library/…, all
without the host), and `cridge-tests/…` for what those lack: see IMAGES below.

usage: build.py --programs DIR --shell FILE OUT
    DIR holds the unpacked packages busybox-static, nginx and nginx-common; FILE is
    the package busybox's program.
needs: gcc, zstd, pgrep, ipcs
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CREATED = "2026-01-01T00:00:00Z"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = {"Env": [PATH], "Cmd": ["sh"]}

DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "plain": "application/vnd.oci.image.layer.v1.tar",
}

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
default-user:x:1000:1000::/home:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
www-data:x:33:
default-user:x:1000:
group-defined-in-image:x:50000:default-user
nogroup:x:65534:
"""
NGINX_CONF = """\
user root root;
worker_processes 1;
pid /var/run/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
  include mime.types;
  access_log off;
  server {{ listen {port}; root /usr/share/nginx/html; }}
}}
"""


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def architecture():
    """This machine's, in the words of Go and OCI."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


class Tree:
    """A layer's files, in the order in which they were put there."""

    def __init__(self):
        self.raw = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.raw, mode="w", format=tarfile.PAX_FORMAT)
        self.folders = set()

    def folder(self, path, mode=0o755, uid=0, gid=0):
        path = path.strip("/")
        if path and path not in self.folders:
            self.folder(os.path.dirname(path))
            self.folders.add(path)
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, uid, gid
            self.tar.addfile(entry)

    def file(self, path, data, mode=0o644):
        self.folder(os.path.dirname(path))
        data = data.encode() if isinstance(data, str) else data
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(data), mode
        self.tar.addfile(entry, io.BytesIO(data))

    def hard_link(self, path, target):
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname, entry.mode = tarfile.LNKTYPE, target, 0o755
        self.tar.addfile(entry)

    def special(self, path, kind, target=""):
        """A link, or whatever has no content."""
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname, entry.mode = kind, target, 0o777
        self.tar.addfile(entry)

    def program(self, source, path=None):
        """A binary, with the libraries that it is linked to."""
        self.file((path or str(source)).lstrip("/"), pathlib.Path(source).read_bytes(), 0o755)
        linked = subprocess.run(["ldd", str(source)], capture_output=True, text=True, check=False).stdout
        for library in sorted(word for word in linked.split() if word.startswith("/")):
            name = library.lstrip("/")
            if name not in self.folders:
                self.folders.add(name)
                self.file(name, pathlib.Path(library).resolve().read_bytes(), 0o755)

    def layer(self, form="gzip"):
        self.tar.close()
        return Layer(self.raw.getvalue(), form)


class Layer:
    def __init__(self, raw, form):
        self.form, self.diff_id, self.raw = form, digest(raw), raw
        if form == "gzip":
            self.data = gzip.compress(raw, 6, mtime=0)
        elif form == "zstd":
            self.data = subprocess.run(["zstd", "-q", "-c"], input=raw, capture_output=True, check=True).stdout
        else:
            self.data = raw

    def again(self, form):
        """The same files, compressed in another way."""
        return Layer(self.raw, form)


class Storage:
    """A docker-registry's filesystem storage, and the list of what is in it."""

    def __init__(self, out):
        self.root = pathlib.Path(out) / "storage/docker/registry/v2"
        self.listing = {}

    def put(self, path, data):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode())

    def blob(self, data):
        name = digest(data)
        algorithm, value = name.split(":")
        path = f"blobs/{algorithm}/{value[:2]}/{value}/data"
        if not (self.root / path).exists():
            self.put(path, data)
        return name

    def link(self, repository, kind, name):
        self.put(f"repositories/{repository}/{kind}/{name.replace(':', '/')}/link", name)

    def component(self, repository, data):
        name = self.blob(data)
        self.link(repository, "_layers", name)
        return name

    def manifest(self, repository, document, tags=()):
        data = json.dumps(document, indent=2).encode()
        name = self.blob(data)
        self.link(repository, "_manifests/revisions", name)
        for tag in tags:
            self.put(f"repositories/{repository}/_manifests/tags/{tag}/current/link", name)
            self.link(repository, f"_manifests/tags/{tag}/index", name)
        return {"mediaType": document["mediaType"], "digest": name, "size": len(data)}

    def image(self, repository, tags, layers, config, types=DOCKER, arch=None):
        """Stores an image, and returns its manifest's descriptor."""
        document = {
            "architecture": arch or architecture(),
            "os": "linux",
            "created": CREATED,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": CREATED, "created_by": "tests/images"} for _ in layers],
        }
        data = json.dumps(document, sort_keys=True).encode()
        parts = [
            {"mediaType": types[layer.form], "size": len(layer.data), "digest": self.component(repository, layer.data)}
            for layer in layers
        ]
        image_id = self.component(repository, data)
        descriptor = self.manifest(
            repository,
            {
                "schemaVersion": 2,
                "mediaType": types["manifest"],
                "config": {"mediaType": types["config"], "size": len(data), "digest": image_id},
                "layers": parts,
            },
            tags,
        )
        for tag in tags:
            self.listing[f"{repository}:{tag}"] = {
                "digest": descriptor["digest"],
                "id": image_id,
                "size": sum(part["size"] for part in parts) + len(data) + descriptor["size"],
            }
        return descriptor

    def index(self, repository, tags, images, types):
        """Stores an index over images of several architectures."""
        entries = [
            {**self.image(repository, [], layers, config, types, arch), "platform": {"os": "linux", "architecture": arch}}
            for arch, layers, config in images
        ]
        document = {"schemaVersion": 2, "mediaType": types["index"], "manifests": entries}
        descriptor = self.manifest(repository, document, tags)
        for tag in tags:
            self.listing[f"{repository}:{tag}"] = {"digest": descriptor["digest"], "manifests": entries}


def busybox(programs, shell):
    tree = Tree()
    for folder in ("proc", "sys", "dev", "root", "home", "var/www", "var/run", "etc", "usr/sbin"):
        tree.folder(folder)
    tree.folder("tmp", 0o1777)
    binary = programs / "bin/busybox"
    tree.file("bin/busybox", binary.read_bytes(), 0o755)
    # The static one's shell runs its own applets whatever is at their paths, and knows nothing of
    # a path that is masked; the other's runs what it finds.
    shells = ("sh", "ash")
    for applet in subprocess.check_output([binary, "--list"], text=True).split():
        if applet not in ("busybox", *shells):
            tree.hard_link("bin/" + applet, "bin/busybox")
    tree.program(shell, "bin/sh")
    tree.hard_link("bin/ash", "bin/sh")
    # The distribution's busybox leaves these two out.
    tree.program("/usr/bin/pgrep")
    tree.program("/usr/bin/ipcs")
    tree.file("var/www/index.html", "<h1>It works!</h1>\n")
    tree.file("etc/passwd", PASSWD)
    tree.file("etc/group", GROUP)
    tree.file("etc/shadow", "root:*:::::::\n", 0o640)
    return tree.layer()


def nginx(programs, port):
    tree = Tree()
    tree.program(programs / "usr/sbin/nginx", "usr/sbin/nginx")
    for folder in ("var/log/nginx", "var/lib/nginx", "usr/share/nginx/html"):
        tree.folder(folder)
    tree.file("usr/share/nginx/html/index.html", "<title>Welcome to nginx!</title><h1>Welcome to nginx!</h1>\n")
    tree.file("etc/nginx/mime.types", (programs / "etc/nginx/mime.types").read_bytes())
    tree.file("etc/nginx/nginx.conf", NGINX_CONF.format(port=port))
    return tree.layer()


def compiled(source, path, mode=0o755):
    with tempfile.TemporaryDirectory() as folder:
        binary = pathlib.Path(folder) / "binary"
        subprocess.check_call(["gcc", "-static", "-Os", "-s", "-o", binary, HERE / source])
        tree = Tree()
        tree.file(path, binary.read_bytes(), mode)
        return tree.layer()


def one_file(path, text, form="gzip"):
    tree = Tree()
    tree.file(path, text)
    return tree.layer(form)


def replaced():
    """An upper layer that takes away: a whiteout, an opaque folder, a changed mode."""
    tree = Tree()
    tree.file("etc/.wh.shadow", "")
    tree.folder("var/www")
    tree.file("var/www/.wh..wh..opq", "")
    tree.file("var/www/new.html", "new\n")
    tree.folder("home", 0o700, 1000, 1000)
    return tree.layer()


# What links of hostile images lead to: a folder of the node's, if anything followed them.
BAIT = "/run/netns/bait"
UPWARDS = "../../../../../../../.."


def links():
    """Where containers' files are looked for and mounted: links out of the root."""
    tree = Tree()
    tree.special("etc/passwd", tarfile.SYMTYPE, BAIT + "/passwd")
    tree.special("etc/group", tarfile.SYMTYPE, UPWARDS + BAIT + "/group")
    tree.special("etc/hosts", tarfile.SYMTYPE, UPWARDS + BAIT + "/hosts")
    tree.special("srv", tarfile.SYMTYPE, BAIT)
    tree.special("opt", tarfile.SYMTYPE, UPWARDS + BAIT)
    return tree.layer()


def breakout(*entries):
    """A layer whose entries lie about their places."""
    tree = Tree()
    for path, kind, target in entries:
        tree.special(path, kind, target)
    return tree.layer()


def build(storage, programs, shell):
    base = busybox(programs, shell)

    # What critest and the kubelet's own tests pull.
    e2e, staging = "e2e-test-images/", "k8s-staging-cri-tools/"
    web = {"Env": [PATH], "Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    welcome = nginx(programs, 80)
    storage.image(e2e + "busybox", ["1.29-2", "1.29-4", "1.36.1-1", "1.37.0-1"], [base], SHELL)
    storage.image("busybox", ["latest", "1.36"], [base], SHELL, OCI)
    storage.image("library/busybox", ["latest", "1.36"], [base], SHELL, OCI)
    storage.image("containerd/busybox", ["latest", "1.28", "1.36"], [base], SHELL)
    storage.image("library/nginx", ["latest", "1.27"], [base, welcome], web, OCI)
    storage.image(e2e + "nginx", ["1.14-2"], [base, welcome], web)
    storage.image(staging + "hostnet-nginx-" + architecture(), ["latest"], [base, nginx(programs, 12003)], web)
    httpd = {"Env": [PATH], "Cmd": ["sh", "-c", "echo httpd; exec httpd -f -p 80 -h /var/www"], "ExposedPorts": {"80/tcp": {}}}
    storage.image(e2e + "httpd", ["2.4.39-4"], [base], httpd)
    suid = compiled("nonewprivs.c", "nnp", 0o4755)
    storage.image(e2e + "nonewprivs", ["1.3"], [base, suid], {"Env": [PATH], "Cmd": ["/nnp"]})
    pause = compiled("pause.c", "pause")
    for tag in ("3.6", "3.8", "3.9", "3.10", "3.10.1", "3.10.2"):
        # Each tag is an image of its own, as upstream's are: critest counts an image's tags.
        storage.image("pause", [tag], [pause], {"Entrypoint": ["/pause"], "User": "65535:65535", "Labels": {"pause": tag}})
    for name, user in {
        "test-image-user-uid": "1002",
        "test-image-user-username": "www-data",
        "test-image-user-uid-group": "1003:1003",
        "test-image-user-username-group": "www-data:100",
        "test-image-predefined-group": "1000",
    }.items():
        storage.image(staging + name, ["latest"], [base], {**SHELL, "User": user})
    for name, tags in {
        "test-image-latest": [["latest"]],
        "test-image-tag": [["test"], ["all"]],
        "test-image-digest": [["latest"]],
        "test-image-1": [["latest"]],
        "test-image-2": [["latest"]],
        "test-image-3": [["latest"]],
        "test-image-tags": [["1", "2", "3"]],
    }.items():
        for same in tags:
            marker = one_file("name", f"{name}:{same[0]}\n")
            storage.image(staging + name, same, [base, marker], SHELL)

    # Forms of images that those do not have.
    own = "cridge-tests/"
    storage.image(own + "docker", ["1"], [base, one_file("form", "docker\n")], SHELL, DOCKER)
    storage.image(own + "oci", ["1"], [base, one_file("form", "oci\n")], SHELL, OCI)
    storage.image(own + "zstd", ["1"], [base.again("zstd"), one_file("form", "zstd\n", "zstd")], SHELL, OCI)
    storage.image(own + "plain", ["1"], [base.again("plain"), one_file("form", "plain\n", "plain")], SHELL, OCI)
    storage.image(own + "whiteouts", ["1"], [base, replaced()], SHELL, OCI)
    other = "arm64" if architecture() == "amd64" else "amd64"
    platforms = [
        (architecture(), [base, one_file("form", architecture() + "\n")], SHELL),
        (other, [one_file("form", other + "\n")], SHELL),
    ]
    storage.index(own + "index", ["1"], platforms, OCI)
    storage.index(own + "list", ["1"], platforms, DOCKER)
    storage.index(own + "foreign", ["1"], platforms[1:], OCI)
    configured = {
        "User": "default-user",
        "Env": [PATH, "GREETING=hello from the image"],
        "WorkingDir": "/srv/work",
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo $GREETING; id; pwd; exec sleep 3600"],
        "Volumes": {"/srv/data": {}},
        "StopSignal": "SIGUSR1",
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"org.example.purpose": "every key of an image's config"},
    }
    tree = Tree()
    tree.folder("srv/data", 0o755, 1000, 1000)
    tree.file("srv/data/from-image", "what the image has below its volume\n")
    storage.image(own + "configured", ["1"], [base, tree.layer()], configured, OCI)

    # What hostile ones are made of.
    storage.image(own + "links", ["1"], [base, links()], {**SHELL, "Volumes": {"/srv/volume": {}, "/opt": {}}}, OCI)
    upwards, out = UPWARDS + BAIT, ("out", tarfile.SYMTYPE, BAIT)
    for name, entries in {
        "upwards": [(upwards + "/dropped", tarfile.REGTYPE, "")],
        "absolute": [(BAIT + "/dropped", tarfile.REGTYPE, "")],
        "through-link": [out, ("out/dropped", tarfile.REGTYPE, "")],
        "whiteout": [out, ("out/.wh.secret", tarfile.REGTYPE, "")],
        "opaque": [out, ("out/.wh..wh..opq", tarfile.REGTYPE, "")],
        "hard-link": [("stolen", tarfile.LNKTYPE, upwards + "/secret")],
        "link-through-link": [out, ("stolen", tarfile.LNKTYPE, "out/secret")],
    }.items():
        storage.image(own + "breakout-" + name, ["1"], [base, breakout(*entries)], SHELL, OCI)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--shell", type=pathlib.Path, required=True)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    storage = Storage(args.out)
    build(storage, args.programs, args.shell)
    (args.out / "images.json").write_text(json.dumps(storage.listing, indent=2) + "\n")


if __name__ == "__main__":
    main()
