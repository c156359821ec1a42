# shellcheck shell=bash
# The disk of a machine as users' nodes are: a stable Debian with systemd, cgroup v2,
# pressure stall information, AppArmor, and every capability.

VM_TOOLS=(debootstrap e2fsprogs qemu-system-x86)
VM_SUITE=bookworm
# Beside what a minimal Debian is: what nodes have, and what scripts and tests here call.
VM_PACKAGES=(apparmor ca-certificates dbus e2fsprogs iproute2 iptables jq kmod libseccomp2
    linux-image-cloud-amd64 mount procps sudo systemd systemd-sysv udev)

vm() {
    [ "$(dpkg --print-architecture)" = amd64 ] || die "vm: amd64 only"
    install_tools "${VM_TOOLS[@]}"
    local place
    place=$(vm_place)
    once "$place" "a Debian for a virtual machine (a minute or two)" build_vm
    point vm/now "$place"
}
vm_place() { echo "vm/$(fingerprint "$REPO/hack/lab.d/vm.sh")"; }

# The kernel and its initrd apart, for QEMU.
build_vm() {
    local fresh=$1 root=$1/root mirror
    mirror=$(debian_mirror)
    as_root debootstrap --variant=minbase --include="$(IFS=,; echo "${VM_PACKAGES[*]}")" "$VM_SUITE" "$root" "$mirror"
    cp "$root"/boot/vmlinuz-* "$fresh/vmlinuz"
    cp "$root"/boot/initrd.img-* "$fresh/initrd"
    rm -rf "$root"/boot/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    vm_settings "$root"
    mke2fs -q -t ext4 -L system -d "$root" "$fresh/disk" 12G
    rm -rf --one-file-system "$root"
}

# One service, which runs what is on the second disk, tells its end, and ends the machine.
vm_settings() {
    local root=$1
    echo vm >"$root/etc/hostname"
    printf '127.0.0.1 localhost vm\n::1 localhost\n' >"$root/etc/hosts"
    echo 'LABEL=system / ext4 defaults 0 0' >"$root/etc/fstab"
    mkdir "$root/payload"
    # The disk and the ports are looked for here: udev's names for them may come late.
    install -m 755 /dev/stdin "$root/usr/local/sbin/payload" <<'SCRIPT'
#!/bin/bash
port() {
    local name
    # The driver may come late as well.
    until name=$(grep -lx "$1" /sys/class/virtio-ports/*/name 2>/dev/null | cut -d / -f 5) &&
        [ -n "$name" ] && [ -c "/dev/$name" ]; do
        sleep 0.1
    done
    echo "/dev/$name"
}
output=$(port output)
exec >"$output" 2>&1
rc=0
mount -L payload /payload && /payload/start || rc=$?
echo "$rc" >"$(port status)"
exec systemctl poweroff --force --force >/dev/null
SCRIPT
    # A first boot's work, and profiles of programs that are not here: seconds each, emulated.
    echo 5f0c7fd3a0a54b0c8f3ff6c5a2a3a3f0 >"$root/etc/machine-id"
    touch "$root"/{etc,var}/.updated
    find "$root/etc/apparmor.d" -maxdepth 1 -type f -delete
    # Limits and scores are those of a distribution's containerd.service.
    cat >"$root/etc/systemd/system/payload.service" <<'UNIT'
[Unit]
Description=What this machine was started for
After=multi-user.target
[Service]
Type=exec
ExecStart=/usr/local/sbin/payload
Environment=HOME=/root
Delegate=yes
KillMode=process
OOMPolicy=continue
OOMScoreAdjust=-999
LimitCORE=infinity
LimitNOFILE=1048576
LimitNPROC=infinity
TasksMax=infinity
[Install]
WantedBy=graphical.target
UNIT
    chroot "$root" systemctl enable payload.service
    # Nodes' folders are below /tmp, and containerd's own are never on a tmpfs.
    chroot "$root" systemctl mask tmp.mount serial-getty@ttyS0.service getty@tty1.service \
        ldconfig.service systemd-journal-catalog-update.service e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer
}
