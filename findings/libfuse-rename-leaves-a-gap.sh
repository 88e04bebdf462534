#!/usr/bin/env bash
#
# sshfs 3.7.3 and bindfs 1.14.7: rename(2) over a file that is open on the same mount is
# two renames for everybody else. libfuse's high-level interface first renames the
# open file to .fuse_hidden..., then renames the new file. In between the name is free:
# another client of the server finds nothing there, and can create the name. rename(2)
# promises that the name always exists. A file also counts as open for some time after
# its last close(2), because the kernel does not wait for the release.
#
# The test: a mount renames b over a while a is open; strace shows the calls that the
# server of sshfs makes. The listing shows the hidden file on both filesystems.
#
# Seen:
#   sshfs: rename a .fuse_hidden0000000200000001, rename b a, unlink .fuse_hidden0000000200000001
#   sshfs, a not open: rename b a
#   bindfs: a .fuse_hidden0000000200000001
#   bindfs -o hard_remove: a
#   sshfs -o hard_remove: fuse: unknown option(s): `-o hard_remove'
#
# Needs root, /dev/fuse and python3. Installs the packages sshfs 3.7.3-1.2~deb12u1, bindfs
# 1.14.7-1, openssh-sftp-server and strace of Debian 12 if they are missing, and leaves
# nothing else behind.

set -euo pipefail

if [[ ${1-} != --inside ]]; then
    versions=$(dpkg-query --show --showformat '${Package}=${Version} ' sshfs bindfs 2>/dev/null || true)
    [[ $versions == *sshfs=3.7.3-1.2~deb12u1* && $versions == *bindfs=1.14.7-1* && -x $(command -v strace) &&
        -x /usr/lib/openssh/sftp-server ]] || {
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -qq --yes --no-install-recommends sshfs=3.7.3-1.2~deb12u1 bindfs=1.14.7-1 openssh-sftp-server strace >/dev/null
    }
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    unshare --mount --pid --fork --kill-child --mount-proc bash "$0" --inside "$work"
    exit
fi

work=$2
mkdir "$work/served" "$work/mount"
cat >"$work/server" <<END
#!/bin/sh
exec strace -f -qq -o "$work/calls" -e trace=rename,renameat,renameat2,unlink,unlinkat /usr/lib/openssh/sftp-server
END
chmod +x "$work/server"
echo "sshfs $(dpkg-query --show --showformat '${Version}' sshfs), bindfs $(dpkg-query --show --showformat '${Version}' bindfs)"

# Renames b over a, and says what the directory then has.
replace() {
    python3 - "$work/mount" "$1" <<'END'
import os, sys, time
os.chdir(sys.argv[1])
for name in "ab":
    with open(name, "w") as file:
        file.write(name)
time.sleep(1)
held = open("a") if sys.argv[2] == "open" else None
os.rename("b", "a")
print(*sorted(os.listdir("."), reverse=True))
END
    sleep 1
}

# The calls of the server after the first so many, without its directory.
calls() {
    tail --lines=+$(($1 + 1)) "$work/calls" |
        sed --regexp-extended --quiet "s#^[0-9]+ +(rename|unlink)[a-z0-9]*\(##p" |
        sed "s#AT_FDCWD, ##g; s#\"$work/served/##g; s#[\",)]##g; s# *= 0.*##" |
        awk '{print (NF == 2 ? "rename" : "unlink"), $0}' | paste --serial --delimiters , | sed 's/,/, /g'
}

fail() {
    echo "changed: $1" >&2
    exit 1
}

sshfs -o ssh_command="$work/server" host:"$work/served" "$work/mount"
replace open >/dev/null
seen=$(calls 0)
echo "sshfs: $seen"
[[ $seen =~ ^rename\ a\ (.fuse_hidden[0-9a-f]+),\ rename\ b\ a,\ unlink\ (.fuse_hidden[0-9a-f]+)$ ]] || fail "$seen"
before=$(wc --lines <"$work/calls")
replace closed >/dev/null
seen=$(calls "$before")
echo "sshfs, a not open: $seen"
[[ $seen == "rename b a" ]] || fail "$seen"
umount "$work/mount"

bindfs "$work/served" "$work/mount"
seen=$(replace open)
echo "bindfs: $seen"
[[ $seen =~ ^a\ .fuse_hidden[0-9a-f]+$ ]] || fail "$seen"
umount "$work/mount"

bindfs -o hard_remove "$work/served" "$work/mount"
seen=$(replace open)
echo "bindfs -o hard_remove: $seen"
[[ $seen == a ]] || fail "$seen"
umount "$work/mount"

seen=$(sshfs -o hard_remove -o ssh_command="$work/server" host:"$work/served" "$work/mount" 2>&1 || true)
echo "sshfs -o hard_remove: $seen"
[[ $seen == *"unknown option"* ]] || fail "$seen"
