#!/usr/bin/env bash
#
# bindfs 1.14.7 answers fsync of a directory with success and hands it on to
# nobody: a name that a program made, and made durable by syncing its directory
# as the manual of fsync(2) says, is not durable. fsync of a file is handed on,
# and on ext4 takes the file's new name along.
#
# Seen: calls of fsync and fdatasync below the mount
#   after the fsync of the directory: 0
#   after the fsync of the file: 1
#
# Needs root, /dev/fuse, strace, python3, and the package mirror of Debian 12.
# Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'umount "$work/mount" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/deb" "$work/root" "$work/below" "$work/mount"
cd "$work/deb"
apt-get download -qq bindfs=1.14.7-1 libfuse2=2.9.9-6+b1 2>/dev/null
for package in *.deb; do dpkg -x "$package" "$work/root"; done
libraries=$(dirname "$(find "$work/root" -name 'libfuse.so.2*' | head -n 1)")

LD_LIBRARY_PATH=$libraries strace -f -qq -e trace=fsync,fdatasync -o "$work/trace" \
    "$work/root/usr/bin/bindfs" -f "$work/below" "$work/mount" &
until mountpoint -q "$work/mount"; do
    kill -0 $! || exit 1
    sleep 0.1
done

python3 - "$work/mount" <<'END'
import os, sys
directory = sys.argv[1]
open(directory + "/name", "w").close()
fd = os.open(directory, os.O_RDONLY)
os.fsync(fd)
END
of_directory=$(grep -c sync "$work/trace" || true)
python3 - "$work/mount" <<'END'
import os, sys
os.fsync(os.open(sys.argv[1] + "/name", os.O_RDONLY))
END
of_file=$(grep -c sync "$work/trace" || true)
umount "$work/mount"
wait

echo "calls of fsync and fdatasync below the mount"
echo "after the fsync of the directory: $of_directory"
echo "after the fsync of the file: $of_file"
[[ $of_directory == 0 && $of_file == 1 ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
