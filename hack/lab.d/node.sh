# shellcheck shell=bash
# The parts of a node that run: a private containerd, its CNI and registry
# configuration. Everything that one owns lies below the DIR that it was given.

# daemon NAME COMMAND...: runs COMMAND on its own, as NAME.pid, writing NAME.log.
daemon() {
    local name=$1
    shift
    setsid "$@" >"$name.log" 2>&1 </dev/null &
    echo $! >"$name.pid"
}
alive() {
    [ -e "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null
}
# stop_daemon NAME: asks first, insists after 5 s.
stop_daemon() {
    local name=$1 pid
    [ -e "$name.pid" ] || return 0
    pid=$(cat "$name.pid")
    kill "$pid" 2>/dev/null || true
    settle 5 gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
    rm -f "$name.pid"
}
gone() { ! kill -0 "$1" 2>/dev/null || [ "$(ps -o stat= -p "$1" | cut -c 1)" = Z ]; }

containerd_up() {
    [ $# -ge 2 ] || die "usage: hack/lab containerd-up DIR RELEASE [--cri on|off] [--runc 1.1|1.5] [--criu on|off|FOLDER] [--config FILE]"
    local dir=$1 release=$2 cri=off runc=1.5 criu=on config='' version path
    shift 2
    while [ $# -gt 0 ]; do
        case "$1 ${2:-}" in
            "--cri on" | "--cri off") cri=$2 ;;
            "--runc 1.1" | "--runc 1.5") runc=$2 ;;
            "--criu on" | "--criu off" | "--criu /"*) criu=$2 ;;
            "--config /"*) config=$2 ;;
            *) die "containerd-up: not understood: $*" ;;
        esac
        shift 2
    done
    version=$(containerd "$release")
    runc "$runc"
    cni
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    # A socket's path has 107 bytes, and the longest here is DIR/containerd.sock.ttrpc.
    [ ${#dir} -le 80 ] || die "$dir is too long a path for the sockets below it (80 bytes at most)"
    if alive "$dir/containerd.pid"; then die "a containerd runs in $dir already"; fi
    if [ -z "$config" ] || [ ! -e "$config" ]; then
        : "${config:=$dir/containerd.toml}"
        mkdir -p "$(dirname "$config")"
        case $version in
            1.*) config_v2 "$dir" "$cri" ;;
            *) config_v3 "$dir" "$cri" "$version" ;;
        esac >"$config"
    fi
    # The shim, runc and CRIU are looked for on PATH first.
    path=$CACHE/containerd/$release/bin:$CACHE/runc/$runc:$PATH
    case $criu in
        on) criu && path=$CACHE/criu/bin:$path ;;
        /*) path=$criu:$path ;;
    esac
    daemon "$dir/containerd" env PATH="$path" \
        "$CACHE/containerd/$release/bin/containerd" --config "$config"
    settle 120 answers "$dir" "$release" "$cri" ||
        { tail -n 10 "$dir/containerd.log" >&2; die "containerd $version did not start; see $dir/containerd.log"; }
    echo "$version"
}
answers() {
    "$CACHE/containerd/$2/bin/ctr" --address "$1/containerd.sock" --connect-timeout 1s version || return 1
    [ "$3" = off ] || grep -q 'containerd successfully booted' "$1/containerd.log"
}

# What every release's configuration opens with.
config_common() {
    cat <<TOML
root = "$1/root"
state = "$1/state"
[grpc]
address = "$1/containerd.sock"
[ttrpc]
address = "$1/containerd.sock.ttrpc"
TOML
    # Where each instruction is emulated, shims answer later than a containerd that starts waits for them; it would end
    # what is in them.
    if grep -q 'QEMU TCG' /proc/cpuinfo; then printf '[timeouts]\n"io.containerd.timeout.shim.load" = "1m"\n'; fi
}
config_v2() {
    local dir=$1 cri=$2 disabled='"io.containerd.internal.v1.opt"'
    [ "$cri" = on ] || disabled+=', "io.containerd.grpc.v1.cri"'
    echo "version = 2"
    echo "disabled_plugins = [$disabled]"
    config_common "$dir"
    [ "$cri" = on ] || return 0
    cat <<TOML
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$CACHE/cni"
conf_dir = "$dir/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "$dir/certs.d"
TOML
    by_systemd 'io.containerd.grpc.v1.cri'
}
config_v3() {
    local dir=$1 cri=$2 version=$3 disabled='"io.containerd.internal.v1.opt"' bins
    [ "$cri" = on ] || disabled+=', "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
    "io.containerd.grpc.v1.cri", "io.containerd.podsandbox.controller.v1.podsandbox"'
    echo "version = 3"
    echo "disabled_plugins = [$disabled]"
    config_common "$dir"
    cat <<TOML
[plugins."io.containerd.nri.v1.nri"]
disable = true
TOML
    [ "$cri" = on ] || return 0
    # 2.1 takes several folders and refuses the old key beside them.
    case $version in
        2.0.*) bins="bin_dir = \"$CACHE/cni\"" ;;
        *) bins="bin_dirs = [\"$CACHE/cni\"]" ;;
    esac
    cat <<TOML
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
$bins
conf_dir = "$dir/cni/net.d"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "$dir/certs.d"
TOML
    by_systemd 'io.containerd.cri.v1.runtime'
}
# by_systemd PLUGIN: who makes the cgroups is for the node to say; only cridge asks it.
by_systemd() {
    if [ ! -d /run/systemd/system ] || [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then return 0; fi
    cat <<TOML
[plugins."$1".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."$1".containerd.runtimes.runc.options]
SystemdCgroup = true
TOML
}

containerd_down() {
    [ $# = 1 ] || die "usage: hack/lab containerd-down DIR"
    [ -d "$1" ] || return 0
    local dir pid
    dir=$(cd "$1" && pwd)
    stop_daemon "$dir/containerd"
    # Every process below one of its shims, the shim last: a shim that went first
    # would leave its containers to init.
    for pid in $(shims "$dir/containerd.sock"); do
        # shellcheck disable=SC2046 # one pid a word
        kill -KILL $(descendants "$pid") "$pid" 2>/dev/null || true
        settle 5 gone "$pid" || say "shim $pid of $dir does not go away"
    done
    awk -v below="$dir/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r mount; do umount -l "$(printf '%b' "$mount")" || true; done
    [ ! -e "$dir/cni/bridge" ] || ip link delete "$(cat "$dir/cni/bridge")" 2>/dev/null || true
    rm -f "$dir"/containerd.sock "$dir"/containerd.sock.ttrpc
}
# shims SOCKET: the shims that report to it.
shims() {
    local line
    for line in /proc/[0-9]*/cmdline; do
        if tr '\0' '\n' <"$line" 2>/dev/null | awk -v socket="$1" '
                NR == 1 && $0 !~ /containerd-shim/ { exit }
                before == "-address" && $0 == socket { found = 1 }
                { before = $0 }
                END { exit !found }'; then
            line=${line#/proc/}
            echo "${line%/cmdline}"
        fi
    done 2>/dev/null
}
descendants() {
    local child
    for child in $(ps -o pid= --ppid "$1"); do
        echo "$child"
        descendants "$child"
    done
}

cni_conf() {
    [ $# = 3 ] || [ $# = 4 ] || die "usage: hack/lab cni-conf DIR SUBNET BRIDGE [SUBNET6]"
    cni
    mkdir -p "$1/cni/net.d"
    local dir ranges routes bridge bandwidth=''
    dir=$(cd "$1" && pwd)
    echo "$3" >"$dir/cni/bridge"
    ranges="[{\"subnet\": \"$2\"}]" routes='{"dst": "0.0.0.0/0"}'
    if [ $# = 4 ]; then
        # As containerd's own installer of CNI plugins writes it.
        ranges+=", [{\"subnet\": \"$4\"}]" routes+=', {"dst": "::/0"}'
        bridge='"ipMasq": true, "promiscMode": true'
    else
        # Nothing of a test leaves the machine: no masquerading, and so no rules for it.
        bridge='"ipMasq": false, "hairpinMode": true'
        [ ! -e "$CACHE/cni/bandwidth" ] || bandwidth=',
    {"type": "bandwidth", "capabilities": {"bandwidth": true}}'
    fi
    cat >"$dir/cni/net.d/10-bridge.conflist" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "$3",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "$3",
      "isGateway": true,
      $bridge,
      "ipam": {
        "type": "host-local",
        "dataDir": "$dir/cni/ipam",
        "ranges": [$ranges],
        "routes": [$routes]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}$bandwidth
  ]
}
JSON
    echo "$dir/cni/net.d"
}

registry_hosts() {
    [ $# = 2 ] || [ $# = 3 ] || die "usage: hack/lab hosts DIR PORT [ADDRESS]"
    local registry=http://${3:-127.0.0.1}:$2
    mkdir -p "$1/certs.d/_default"
    cat >"$1/certs.d/_default/hosts.toml" <<TOML
server = "$registry"

[host."$registry"]
capabilities = ["pull", "resolve"]
TOML
    echo "$(cd "$1" && pwd)/certs.d"
}

cridge_conf() {
    [ $# = 1 ] || die "usage: hack/lab cridge-conf DIR"
    cni
    mkdir -p "$1"
    local dir
    dir=$(cd "$1" && pwd)
    cat >"$dir/cridge.toml" <<TOML
listen = "unix://$dir/cridge.sock"
root = "$dir/cridge/root"
state = "$dir/cridge/state"

[containerd]
socket = "$dir/containerd.sock"

[network]
conf_dir = "$dir/cni/net.d"
bin_dirs = ["$CACHE/cni"]
cache_dir = "$dir/cni/cache"
netns_dir = "$dir/netns"

[registry]
config_dirs = ["$dir/certs.d"]
TOML
    echo "$dir/cridge.toml"
}

# cridge_up DIR CRIDGE: this cridge on the containerd of DIR; returns when it serves.
cridge_up() {
    [ $# = 2 ] || die "usage: hack/lab cridge-up DIR CRIDGE"
    cridge_conf "$1" >/dev/null
    local dir
    dir=$(cd "$1" && pwd)
    rm -f "$dir/cridge.sock"
    daemon "$dir/cridge" "$2" serve --config "$dir/cridge.toml"
    settle 15 serves "$dir" || { tail -n 10 "$dir/cridge.log" >&2; die "cridge did not start; see $dir/cridge.log"; }
}
serves() { [ -S "$1/cridge.sock" ]; }

show_places() {
    local release
    for release in "${RELEASES[@]}"; do
        printf 'CONTAINERD_%s=%q\n' "${release//[.]/_}" "$CACHE/containerd/$release/bin"
    done
    printf '%s=%q\n' RUNC_1_1 "$CACHE/runc/1.1" RUNC_1_5 "$CACHE/runc/1.5" CNI "$CACHE/cni" \
        CRIU "$CACHE/criu/bin" TOOLS "$CACHE/bin" CRI_API "$CACHE/cri-api.pb" REGISTRY_STORAGE "$CACHE/images/now/storage"
}
