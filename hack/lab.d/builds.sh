# shellcheck shell=bash
# What is built rather than packaged: a containerd newer than any distribution's,
# runc with idmapped mounts, the CRI's own tools.

RELEASES=(1.6 1.7 2.x 2.4)
CONTAINERD_NEWEST=v2.4.2
RUNC_NEWEST=v1.5.2
CARGO_DENY=0.20.2
CARGO_DEB=3.8.0

containerd() {
    local release=${1:-}
    case $release in
        1.6) once containerd/1.6 "containerd 1.6" unpack_containerd bookworm ;;
        1.7) once containerd/1.7 "containerd 1.7" unpack_containerd trixie ;;
        2.x) once containerd/2.x "containerd 2.x" unpack_containerd sid ;;
        2.4) once containerd/2.4 "containerd ${CONTAINERD_NEWEST#v} (a few minutes)" build_containerd ;;
        *) die "containerd: one of ${RELEASES[*]}, not '$release'" ;;
    esac
    "$CACHE/containerd/$release/bin/containerd" --version | awk '{ print $3 }' | sed 's/^v//; s/[~+].*//'
}
build_containerd() {
    local commands=github.com/containerd/containerd/v2/cmd
    cd /
    GOBIN=$1/bin GOFLAGS=-buildvcs=false go install \
        -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$CONTAINERD_NEWEST" \
        $commands/containerd@$CONTAINERD_NEWEST \
        $commands/containerd-shim-runc-v2@$CONTAINERD_NEWEST \
        $commands/ctr@$CONTAINERD_NEWEST
}

runc() {
    case ${1:-} in
        1.1) once runc/1.1 "runc 1.1" unpack_runc ;;
        1.5) once runc/1.5 "runc ${RUNC_NEWEST#v}" build_runc ;;
        '') runc 1.1 && runc 1.5 ;;
        *) die "runc: 1.1 or 1.5, not '$1'" ;;
    esac
}
build_runc() {
    apt_tools
    cd /
    GOBIN=$1 GOFLAGS=-buildvcs=false go install -tags seccomp \
        -ldflags "-X main.version=${RUNC_NEWEST#v}" github.com/opencontainers/runc@$RUNC_NEWEST
}

# critest links most of Kubernetes' client: apart, so that crictl is there soon.
crictl() {
    local place
    place=$(cri_tools crictl)
    once "$place" crictl build_crictl
    point bin/crictl "$place/crictl"
    point bin/crictl.yaml "$place/crictl.yaml"
}
critest() {
    local place
    place=$(cri_tools critest)
    once "$place" critest build_critest
    point bin/critest "$place/critest"
}
cri_tools() { echo "$1/$(fingerprint "$REPO"/tests/go/cri-tools/go.mod "$REPO"/tests/go/cri-tools/go.sum)"; }
build_crictl() {
    # For CRI_CONFIG_FILE: without a file, crictl warns of it at each call.
    echo 'timeout: 30' >"$1/crictl.yaml"
    cd "$REPO/tests/go/cri-tools" || return
    GOFLAGS=-buildvcs=false go build -o "$1/crictl" sigs.k8s.io/cri-tools/cmd/crictl
}
build_critest() {
    cd "$REPO/tests/go/cri-tools" || return
    GOFLAGS=-buildvcs=false go test -c -o "$1/critest" sigs.k8s.io/cri-tools/cmd/critest
}

# For the chart.
helm() {
    local place
    place=helm/$(fingerprint "$REPO"/tests/go/helm/go.mod "$REPO"/tests/go/helm/go.sum)
    once "$place" "helm (some minutes)" build_helm
    point bin/helm "$place/helm"
}
build_helm() {
    cd "$REPO/tests/go/helm" || return
    GOFLAGS=-buildvcs=false go build -ldflags '-s -w' -o "$1/helm" helm.sh/helm/v3/cmd/helm
}

# What people look into checkpoints with.
checkpointctl() {
    local module=$REPO/tests/go/checkpointctl place
    place=checkpointctl/$(fingerprint "$module"/go.mod "$module"/go.sum)
    once "$place" checkpointctl build_checkpointctl
    point bin/checkpointctl "$place/checkpointctl"
}
build_checkpointctl() {
    cd "$REPO/tests/go/checkpointctl" || return
    CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -o "$1/checkpointctl" github.com/checkpoint-restore/checkpointctl
}

# kubelet, kubeadm, control_plane, kubectl: Kubernetes' own, apart, so that the first is there soon.
kubelet() {
    local place
    place=$(kubernetes kubelet)
    once "$place" "the kubelet (some minutes)" build_kubernetes kubelet
    point bin/kubelet "$place/kubelet"
}
kubeadm() {
    local place
    place=$(kubernetes kubeadm)
    once "$place" "kubeadm (a minute or two)" build_kubernetes kubeadm
    point bin/kubeadm "$place/kubeadm"
}
control_plane() {
    local place program programs=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy)
    place=$(kubernetes control-plane)
    once etcd etcd unpack_etcd
    once "$place" "Kubernetes' control plane (some minutes)" build_kubernetes "${programs[@]}"
    point bin/etcd etcd/etcd
    metrics_server
    for program in "${programs[@]}"; do point "bin/$program" "$place/$program"; done
}
# What kubectl top asks.
metrics_server() {
    local module=$REPO/tests/go/metrics-server place
    place=metrics-server/$(fingerprint "$module"/go.mod "$module"/go.sum)
    once "$place" metrics-server build_metrics_server
    point bin/metrics-server "$place/metrics-server"
}
build_metrics_server() {
    cd "$REPO/tests/go/metrics-server" || return
    GOFLAGS=-buildvcs=false go build -o "$1/metrics-server" -ldflags '-s -w' sigs.k8s.io/metrics-server/cmd/metrics-server
}
kubectl() {
    local place
    place=$(kubernetes kubectl)
    once "$place" kubectl build_kubernetes kubectl
    point bin/kubectl "$place/kubectl"
    once kubectl-debian "Debian's kubectl" unpack_kubectl
    point bin/kubectl-debian kubectl-debian/usr/bin/kubectl
}
kubernetes() { echo "$1/$(fingerprint "$REPO"/tests/go/kubernetes/go.mod "$REPO"/tests/go/kubernetes/go.sum)"; }
# build_kubernetes INTO PROGRAM...
build_kubernetes() {
    local into=$1 release version=k8s.io/component-base/version
    shift
    cd "$REPO/tests/go/kubernetes" || return
    release=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    GOFLAGS=-buildvcs=false go build -o "$into/" \
        -ldflags "-s -w -X $version.gitVersion=$release -X $version.gitMajor=1 -X $version.gitMinor=$(cut -d . -f 2 <<<"$release")" \
        "${@/#/k8s.io/kubernetes/cmd/}"
}

# Kubernetes' own client of exec, attach and port-forward.
streaming() {
    local module=$REPO/tests/go/streaming place
    place=streaming/$(fingerprint "$module"/go.mod "$module"/go.sum "$module"/*.go)
    once "$place" "client-go's streaming client" build_streaming
    point bin/streaming "$place/streaming"
}
build_streaming() {
    cd "$REPO/tests/go/streaming" || return
    GOFLAGS=-buildvcs=false go build -o "$1/streaming" .
}

cri_api() {
    local module=$REPO/tests/go/cri-api place
    place=cri-api/$(fingerprint "$module"/go.mod "$module"/go.sum "$module"/main.go)
    once "$place" "the CRI's upstream descriptors" build_cri_api
    point cri-api.pb "$place/cri-api.pb"
}
build_cri_api() {
    cd "$REPO/tests/go/cri-api" || return
    GOFLAGS=-buildvcs=false go run . >"$1/cri-api.pb"
}

# A compiler for the C in some crates, and Rust's own library.
aarch64() {
    install_tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    [ -e "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu" ] || rustup -q target add aarch64-unknown-linux-gnu
}

deny() { cargo_tool cargo-deny "$CARGO_DENY" deny; }
# systemd's own tools look at the unit; it need not run.
deb() {
    install_tools binutils dpkg-dev systemd
    cargo_tool cargo-deb "$CARGO_DEB" deb
}
# cargo_tool CRATE VERSION NAME: as $CACHE/NAME/bin.
cargo_tool() {
    once "$1/$2" "$1 $2 (a few minutes)" build_cargo_tool "$1" "$2"
    point "$3" "$1/$2"
}
build_cargo_tool() {
    CARGO_TARGET_DIR=$1/target cargo install --locked --root "$1" --version "$3" "$2"
    rm -rf "$1/target"
}

# point NAME PLACE: $CACHE/NAME leads to $CACHE/PLACE.
point() {
    [ "$(readlink "$CACHE/$1" 2>/dev/null)" != "$CACHE/$2" ] || return 0
    mkdir -p "$(dirname "$CACHE/$1")"
    ln -sfn "$CACHE/$2" "$CACHE/$1"
}
