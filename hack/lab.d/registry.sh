# shellcheck shell=bash
# Test images, and the distribution's registry that serves them on loopback.

# The images are written as the registry stores them, so that a registry comes up
# with all of them at once, and nothing has to be pushed.
images() {
    programs
    shell
    local maker=$REPO/tests/images/build.py place
    place=$(images_place)
    once "$place" "the test images" build_images "$maker"
    point images/now "$place"
}
images_place() { echo "images/$(fingerprint "$REPO"/tests/images/{build.py,*.c})"; }
build_images() {
    apt_tools
    PYTHONDONTWRITEBYTECODE=1 python3 "$2" --programs "$CACHE/programs" --shell "$CACHE/shell/bin/busybox" "$1"
}

registry_up() {
    [ $# = 2 ] || [ $# = 3 ] || die "usage: hack/lab registry-up DIR PORT [ADDRESS]"
    images
    mkdir -p "$1"
    local dir port=$2 address=${3:-127.0.0.1}
    dir=$(cd "$1" && pwd)
    if alive "$dir/registry.pid"; then die "a registry runs in $dir already"; fi
    # Not by way of images/now, which another clone of this repository may move.
    [ -e "$dir/storage" ] || cp -a --reflink=auto "$CACHE/$(images_place)"/{storage,images.json} "$dir"
    cat >"$dir/registry.yml" <<YML
version: 0.1
log: {accesslog: {disabled: true}, level: info, formatter: text}
storage:
  filesystem: {rootdirectory: $dir/storage, maxthreads: 100}
  delete: {enabled: true}
  maintenance: {uploadpurging: {enabled: false}}
http: {addr: "$address:$port", secret: loopback}
YML
    rm -f "$dir/port"
    daemon "$dir/registry" env OTEL_TRACES_EXPORTER=none \
        "$CACHE/programs/usr/bin/docker-registry" serve "$dir/registry.yml"
    settle 20 find_port "$dir" "$address" || { tail -n 5 "$dir/registry.log" >&2; die "the registry did not start; see $dir/registry.log"; }
    cat "$dir/port"
}
find_port() {
    alive "$1/registry.pid" || return 1
    sed -n "s/.*listening on $2:\\([0-9]*\\).*/\\1/p" "$1/registry.log" | head -n 1 | grep . >"$1/port"
}

registry_down() {
    [ $# = 1 ] || die "usage: hack/lab registry-down DIR"
    stop_daemon "$1/registry"
    rm -f "$1/port"
}

# chart_image DIR CRIDGE TAG: a registry serves what is put into its folder meanwhile.
chart_image() {
    [ $# = 3 ] || die "usage: hack/lab chart-image DIR CRIDGE TAG"
    kubectl
    PYTHONDONTWRITEBYTECODE=1 python3 "$REPO/tests/images/chart.py" --kubectl "$CACHE/bin/kubectl" --cridge "$2" \
        --unit "$REPO/dist/cridge.service" "$1" "$3"
}
