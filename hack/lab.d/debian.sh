# shellcheck shell=bash
# A machine's files as users' nodes have them: a stable Debian with systemd. hack/machine
# runs it on this machine's kernel, hack/vm with one of its own (vm.sh).

DEBIAN_SUITE=bookworm
# Beside what a minimal Debian is: what nodes have, and what scripts and tests here call.
DEBIAN_PACKAGES=(apparmor ca-certificates dbus e2fsprogs iproute2 iptables jq kmod libseccomp2
    mount procps sudo systemd systemd-sysv udev)

debian() {
    install_tools debootstrap
    local place
    place=$(debian_place)
    once "$place" "a Debian to be a node (a minute or two)" debian_tree
    point vm/debian "$place"
}
debian_place() { echo "vm/debian.$(fingerprint "$REPO/hack/lab.d/debian.sh")"; }

# debian_tree ROOT [PACKAGE...]: with these packages too.
debian_tree() {
    local root=$1 mirror packages
    shift
    packages=("${DEBIAN_PACKAGES[@]}" "$@")
    mirror=$(debian_mirror)
    as_root debootstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" "$DEBIAN_SUITE" "$root" "$mirror"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    debian_settings "$root"
}

debian_settings() {
    local root=$1
    echo vm >"$root/etc/hostname"
    printf '127.0.0.1 localhost vm\n::1 localhost\n' >"$root/etc/hosts"
    # Whoever breaks machines looks for this file before.
    echo "Nothing that this machine writes stays." >"$root/etc/throw-away"
    # A first boot's work, and profiles of programs that are not here: seconds each, emulated.
    echo 5f0c7fd3a0a54b0c8f3ff6c5a2a3a3f0 >"$root/etc/machine-id"
    touch "$root"/{etc,var}/.updated
    find "$root/etc/apparmor.d" -maxdepth 1 -type f -delete
    # Nodes' folders are below /tmp, and containerd's own are never on a tmpfs.
    chroot "$root" systemctl mask tmp.mount serial-getty@ttyS0.service getty@tty1.service console-getty.service \
        ldconfig.service systemd-journal-catalog-update.service e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer
}
