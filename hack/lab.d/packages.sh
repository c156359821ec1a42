# shellcheck shell=bash
# The distribution's packages. Tools are installed; what would start a daemon, or
# push another package off a developer's machine (containerd off Docker's,
# busybox-static off busybox), is only unpacked into the cache.

TOOLS=(ca-certificates curl gcc libc6-dev iproute2 iptables jq libprotobuf-dev
    libseccomp-dev make openssl pkg-config procps protobuf-compiler python3 shellcheck
    util-linux zstd)

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Lists of packages that were fetched some days ago name versions that are gone.
refresh_lists() {
    once lists/"$(date +%Y-%m-%d)" "the package lists" fetch_lists
}
fetch_lists() { as_root apt-get -o DPkg::Lock::Timeout=300 update; }

missing_tools() {
    # shellcheck disable=SC2016 # dpkg fills these in
    dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
        awk '$2 == "installed" { print $1 }' | sort -u | comm -13 - <(printf '%s\n' "$@" | sort)
}

apt_tools() { install_tools "${TOOLS[@]}"; }
# install_tools PACKAGE...: those that are not there.
install_tools() {
    local missing
    mapfile -t missing < <(missing_tools "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    refresh_lists
    say "installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive as_root apt-get -q -o DPkg::Lock::Timeout=300 install -y \
        --no-install-recommends "${missing[@]}" >"$CACHE/log.apt" 2>&1 ||
        { tail -n 20 "$CACHE/log.apt" >&2; die "installing packages failed; the whole log is $CACHE/log.apt"; }
}

# unpack INTO PACKAGE... [-- APT-OPTION...]: the packages' files, below INTO.
unpack() {
    local into=$1 packages=() debs
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        packages+=("$1")
        shift
    done
    [ $# = 0 ] || shift
    debs=$(mktemp -d "$into/debs.XXXXXX")
    (cd "$debs" && apt-get -o APT::Sandbox::User=root "$@" download "${packages[@]}")
    for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$into"; done
    rm -rf "$debs"
}

# The small programs that images and the registry are made of.
programs() { once programs "small programs (busybox, nginx, docker-registry)" unpack_programs; }
unpack_programs() {
    refresh_lists
    unpack "$1" busybox-static docker-registry nginx nginx-common
}

# A busybox whose shell looks for programs on PATH; has the other's file names.
shell() { once shell "a shell (busybox)" unpack_shell; }
unpack_shell() {
    refresh_lists
    unpack "$1" busybox
}

# Prometheus' own judge of metrics.
promtool() {
    once promtool "promtool" unpack_promtool
    point bin/promtool promtool/promtool
}
unpack_promtool() {
    refresh_lists
    unpack "$1" prometheus
    mv "$1/usr/bin/promtool" "$1"
    rm -rf "${1:?}"/{usr,etc,lib,var}
    "$1/promtool" --version
}

cni() { once cni "the CNI plugins" unpack_cni; }
unpack_cni() {
    refresh_lists
    unpack "$1" containernetworking-plugins
    mv "$1"/usr/lib/cni/* "$1"
    rm -rf "${1:?}"/{usr,lib}
}

# One of years ago, as people have it: its exec and port-forward are SPDY's.
unpack_kubectl() {
    refresh_lists
    unpack "$1" kubernetes-client
}

# Where this machine itself gets Debian from.
debian_mirror() {
    # shellcheck disable=SC2016 # apt fills these in
    apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 !~ /-/ && !found++ { print $3 } END { exit !found }' ||
        die "no Debian mirror among this machine's apt sources"
}

# suite_options FOLDER SUITE: apt options, one a line, that read another suite of
# that mirror, with lists of their own.
suite_options() {
    local folder=$1 suite=$2 mirror
    mirror=$(debian_mirror)
    mkdir -p "$folder"/{lists/partial,cache/archives/partial}
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$mirror" "$suite" \
        /usr/share/keyrings/debian-archive-keyring.gpg >"$folder/$suite.sources"
    printf '%s\n' -o Dir::Etc::SourceList="$folder/$suite.sources" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o Acquire::Languages=none \
        -o APT::Sandbox::User=root
}

# unpack_containerd INTO SUITE: containerd and its shim of a suite, as INTO/bin.
unpack_containerd() {
    local into=$1 suite=$2 options=()
    if [ "$suite" = bookworm ] && . /etc/os-release && [ "${VERSION_CODENAME:-}" = bookworm ]; then
        refresh_lists
    else
        mapfile -t options < <(suite_options "$into/apt" "$suite")
        apt-get "${options[@]}" update
    fi
    unpack "$into" containerd -- "${options[@]}"
    mkdir "$into/bin"
    mv "$into"/usr/bin/{containerd,containerd-shim-runc-v2,ctr} "$into/bin"
    rm -rf "${into:?}"/{usr,etc,lib,var,apt}
}

unpack_runc() {
    refresh_lists
    unpack "$1" runc
    mv "$1/usr/sbin/runc" "$1"
    rm -rf "${1:?}/usr"
}

# CRIU, of a release that knows today's kernels: bookworm's fails on their vDSO.
criu() { once criu "CRIU" unpack_criu; }
unpack_criu() {
    local into=$1 options=() packages=() loader
    mapfile -t options < <(suite_options "$into/apt" trixie)
    apt-get "${options[@]}" update
    mapfile -t packages < <(apt-cache "${options[@]}" depends --recurse --no-recommends --no-suggests \
        --no-conflicts --no-breaks --no-replaces --no-enhances criu | grep '^[a-z]')
    unpack "$into" "${packages[@]}" -- "${options[@]}"
    mkdir "$into"/{bin,lib.own}
    mv "$into/usr/sbin/criu" "$into/lib.own"
    find "$into/usr/lib" -not -path '*/gconv/*' \( -name '*.so' -o -name '*.so.*' \) -exec mv -t "$into/lib.own" {} +
    loader=$(basename "$(find "$into/lib.own" -name 'ld-linux*' | head -n 1)")
    # It needs its own libc: whoever starts it starts that one's loader.
    printf '#!/bin/sh\nexec "${0%%/*}/../lib/%s" --library-path "${0%%/*}/../lib" "${0%%/*}/../lib/criu" "$@"\n' \
        "$loader" >"$into/bin/criu"
    chmod 755 "$into/bin/criu"
    rm -rf "${into:?}"/{usr,etc,lib,lib64,sbin,var,apt}
    mv "$into/lib.own" "$into/lib"
    "$into/bin/criu" --version
}

unpack_etcd() {
    refresh_lists
    unpack "$1" etcd-server
    mv "$1/usr/bin/etcd" "$1"
    rm -rf "${1:?}"/{usr,etc,lib,var}
}
