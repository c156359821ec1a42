# shellcheck shell=bash
# The disk of a machine as users' nodes are, with a kernel of its own: cgroup v2, pressure
# stall information, AppArmor, and every capability.

VM_TOOLS=(debootstrap e2fsprogs qemu-system-x86)

vm() {
    [ "$(dpkg --print-architecture)" = amd64 ] || die "vm: amd64 only"
    install_tools "${VM_TOOLS[@]}"
    local place
    place=$(vm_place)
    once "$place" "a Debian for a virtual machine (a minute or two)" build_vm
    point vm/now "$place"
}
vm_place() { echo "vm/$(fingerprint "$REPO"/hack/lab.d/{debian,vm}.sh)"; }

# The kernel and its initrd apart, for QEMU.
build_vm() {
    local fresh=$1 root=$1/root
    debian_tree "$root" linux-image-cloud-amd64
    cp "$root"/boot/vmlinuz-* "$fresh/vmlinuz"
    cp "$root"/boot/initrd.img-* "$fresh/initrd"
    rm -rf "$root"/boot/*
    vm_settings "$root"
    mke2fs -q -t ext4 -L system -d "$root" "$fresh/disk" 12G
    rm -rf --one-file-system "$root"
}

# One service, which runs what is on the second disk, tells its end, and ends the machine.
vm_settings() {
    local root=$1
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
}
