#!/bin/sh
# The guest's first process: makes it a small Linux, runs the tests one by one, and says on the console how each ended. The lines that begin
# with `@@` are for `cargo xtask vm`; a guest that panics never says the last of them.
# An emulated processor is slow, and other faults are tested on the host.
export SQUALL_SLOW=8 SQUALL_FAULTS=network- SQUALL_NO_SKIP=1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 none /sys/fs/cgroup
# Controllers are given on, as a system with systemd does; this shell leaves the root for that.
mkdir /sys/fs/cgroup/suite
echo $$ > /sys/fs/cgroup/suite/cgroup.procs
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
done 2> /dev/null
ip link set lo up
echo "@@ begin $(uname -r)"
# Each line: the directory of the package, the seconds it may take, the program, the test.
while read -r folder limit program test; do
    mkdir -p "$folder" && cd "$folder" || continue
    before=$(cut -d. -f1 /proc/uptime)
    # In a session of its own, so that what a test ends is not the suite.
    setsid timeout -s KILL "$limit" "$program" "$test" --exact --include-ignored --nocapture > /tmp/.said 2>&1 < /dev/null
    status=$?
    seconds=$(($(cut -d. -f1 /proc/uptime) - before))
    skipped=$(grep -o 'SKIPPED .*' /tmp/.said | head -n 1)
    if [ $status = 0 ] && [ -n "$skipped" ]; then
        echo "@@ skipped $skipped"
    elif [ $status = 0 ] && grep -q '^test result: ok. 1 passed' /tmp/.said; then
        echo "@@ passed $test $seconds"
    else
        tail -n 60 /tmp/.said
        echo "@@ failed $test $seconds"
    fi
done < /suite
echo "@@ end"
poweroff -f
