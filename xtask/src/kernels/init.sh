#!/bin/busybox sh
# The first program on the emulated machine: runs the tests and turns it off.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ KUBE_PROXY_BIN=/tests/kube-proxy RUST_BACKTRACE=0
# For tests that turn the clock.
export TESTKIT_OWN_MACHINE=1
# Where tests look for files of the workspace.
export CARGO_WORKSPACE_DIR=/workspace
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
ip link set lo up
# So that it is there before the tests look for it.
modprobe -q ip_vs
echo "processor: $(grep -m 1 'model name' /proc/cpuinfo)"
while read -r suite command; do
    $command < /dev/null 2>&1
    echo "@@ $suite $?"
done < /suites
echo "@@ end 0"
sync
poweroff -f
