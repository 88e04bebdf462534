#!/usr/bin/env bash
#
# GlusterFS 10.3: open(2) with O_CREAT and without O_EXCL fails with EEXIST when
# another client creates the file at the same moment. POSIX and open(2) know this
# error only together with O_EXCL: without it, the file that exists is opened. An
# immediate second open succeeds. Two processes on one mount never see it.
#
# The test: two mounts of one volume (one brick); a process on each opens the same
# name with O_CREAT, closes and removes it, for 30 s at a time.
#
# Seen (number of EEXIST differs from run to run):
#   two mounts: 20287 opens, 10 failed: EEXIST; the second attempt: opened
#   one mount: 13847 opens, 0 failed
#
# Needs root, /dev/fuse, python3, and the packages glusterfs-server and
# glusterfs-client 10.3-5 of Debian 12, which it installs if they are missing: the
# server looks for its parts at fixed paths. Leaves nothing else behind.

set -euo pipefail

if [[ ${1-} != --inside ]]; then
    version=$(dpkg-query --show --showformat '${Version}' glusterfs-server 2>/dev/null || true)
    [[ $version == 10.3-5 ]] || {
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -qq --yes --no-install-recommends glusterfs-server=10.3-5 glusterfs-client=10.3-5 >/dev/null
    }
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" --inside "$work"
    exit
fi

work=$2
ip link set lo up
ip address add 203.0.113.1/32 dev lo
mount -t tmpfs none /run
mount -t tmpfs none /var/lib/glusterd
mount -t tmpfs none /var/log/glusterfs
mkdir -p /run/gluster "$work/brick" "$work/a" "$work/b"
glusterd
until gluster --mode=script pool list >/dev/null 2>&1; do sleep 0.5; done
gluster --mode=script volume create race 203.0.113.1:"$work/brick/data" force >/dev/null
gluster --mode=script volume start race >/dev/null
mount -t glusterfs 203.0.113.1:/race "$work/a"
mount -t glusterfs 203.0.113.1:/race "$work/b"
echo "glusterfs $(glusterfs --version | sed -n '1s/glusterfs //p')"

python3 - "$work/a" "$work/b" <<'END'
import collections, errno, multiprocessing, os, sys, time

def opened(name):
    try:
        os.close(os.open(name, os.O_RDWR | os.O_CREAT, 0o600))
        return "opened"
    except OSError as error:
        return errno.errorcode[error.errno]

def work(directory, barrier, queue):
    seen, again = collections.Counter(), collections.Counter()
    barrier.wait()
    end = time.time() + 30
    while time.time() < end:
        # The other process uses the same name for the same 20 ms.
        name = f"{directory}/{int(time.time() * 50)}"
        first = opened(name)
        seen[first] += 1
        if first == "EEXIST":
            again[opened(name)] += 1
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
    queue.put((seen, again))

def race(directories):
    barrier, queue = multiprocessing.Barrier(2), multiprocessing.Queue()
    processes = [multiprocessing.Process(target=work, args=(d, barrier, queue)) for d in directories]
    for process in processes:
        process.start()
    results = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return (sum((seen for seen, _ in results), collections.Counter()),
            sum((again for _, again in results), collections.Counter()))

a, b = sys.argv[1:]
for _ in range(10):
    seen, again = race((a, b))
    if seen["EEXIST"]:
        break
alone, _ = race((a, a))
print(f"two mounts: {seen.total()} opens, {seen['EEXIST']} failed: EEXIST; the second attempt: {', '.join(again)}")
print(f"one mount: {alone.total()} opens, {alone['EEXIST']} failed")
if not seen["EEXIST"] or set(again) != {"opened"} or alone["EEXIST"]:
    sys.exit("it behaves otherwise now")
END
umount "$work/a" "$work/b"
