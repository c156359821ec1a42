# shellcheck shell=bash
# What a script needs for one run: a folder, and nodes that have their files there.
# Both are gone when the script ends, however it ends.

# own_folder NAME: sets $dir to a new folder. Once for each script, before any own_node.
own_folder() {
    dir=$(mktemp -d "/tmp/cridge-$1.XXXXXX")
    # Root of a pod with users of its own is nobody here, and has its files below.
    chmod 755 "$dir"
    trap leave EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
# own_node COMMAND...: runs it inside hack/ns. In the background, where a signal to
# this script is not kept waiting.
own_node() {
    hack/ns "$@" <&0 &
    wait $!
}
# shellcheck disable=SC2317 # by the trap
# The nodes go first, then their files.
leave() {
    local pid
    for pid in $(jobs -p); do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf --one-file-system "$dir"
}
