#!/usr/bin/env bash
# Installs what gridwatch needs on Debian 12 (x86-64 or aarch64). Safe to run again: what is there is left alone.
#
#   edge-deploy/setup.sh            everything to build, test, run and demo it (the same as --build)
#   edge-deploy/setup.sh --runtime  only what a box needs to run a binary built elsewhere
#   edge-deploy/setup.sh --check    says what is missing and installs nothing; exits 1 if something is
#
# Two kinds of thing are installed: Debian packages, named one by one below with the reason for each, and ONNX Runtime's
# shared library, which Debian 12 does not have, under .cache/ of this checkout (or --onnxruntime-dir DIR).
# Nothing outside those two is touched, no service is left enabled, and nothing is removed.
set -euo pipefail

ONNXRUNTIME=1.31.1

mode=build
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
library_dir=$root/.cache/onnxruntime/$ONNXRUNTIME

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

while (($#)); do
    case $1 in
    --build | --runtime | --check) mode=${1#--} ;;
    --onnxruntime-dir)
        library_dir=${2:?--onnxruntime-dir needs a folder}
        shift
        ;;
    -h | --help)
        sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) die "unknown option $1" "try: edge-deploy/setup.sh --help" ;;
    esac
    shift
done

# ------------------------------------------------------------------------------------------------- which machine

# The hashes are of the wheel as published and of the library in it. A new version means four new hashes.
case $(uname -m) in
x86_64)
    platform=manylinux_2_28_x86_64
    wheel_sha256=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
    library_sha256=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3
    ;;
aarch64)
    platform=manylinux_2_28_aarch64
    wheel_sha256=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3
    library_sha256=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467
    ;;
*) die "this is a $(uname -m) machine; gridwatch is set up on x86_64 and aarch64 only" ;;
esac

command -v apt-get >/dev/null ||
    die "there is no apt-get here. On another distribution install what this script names (see 'packages' in it) by hand."
distribution=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\).*/\1/p' /etc/os-release 2>/dev/null || true)
case $(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null || true) in
bookworm) ;;
*) say "this is ${distribution:-an unknown distribution}; only Debian 12 is tested. Going on." ;;
esac

# ------------------------------------------------------------------------------------------------- packages

# Component packages only: libopencv-dev would bring VTK, MPI and half a desktop for two modules.
packages() {
    cat <<'END'
runtime  gstreamer1.0-plugins-base   # appsrc, appsink, videoconvert, uridecodebin
runtime  gstreamer1.0-plugins-good   # rtsp, rtp, udp, mp4
runtime  gstreamer1.0-plugins-bad    # h264parse, h265parse, hardware decoders (VA-API, V4L2)
runtime  gstreamer1.0-libav          # software H.264 and H.265 decoders
runtime  libgstrtspserver-1.0-0      # the camera farm is in the default build, and the binary is linked to it
runtime  ca-certificates             # rtsps and mqtts
runtime  glib-networking             # rtsps: GLib has no TLS without it
build    build-essential             # linker and libc headers
build    pkg-config                  # finds GStreamer
build    clang                       # the opencv crate reads OpenCV's headers with it
build    libclang-dev                # the same
build    libgstreamer1.0-dev         # decoding
build    libgstreamer-plugins-base1.0-dev
build    libgstrtspserver-1.0-dev    # the camera farm of demo, bench and tests
build    libopencv-core-dev          # view health: the two modules that are linked, no more
build    libopencv-imgproc-dev
build    gstreamer1.0-plugins-ugly   # x264enc, for test streams
build    gstreamer1.0-tools          # gst-inspect-1.0, gst-launch-1.0: to see what a camera sends
build    ffmpeg                      # encodes bench clips, and is the comparator of bench
build    mosquitto                   # the broker of demo and tests, started by them on a free port
build    mosquitto-clients           # mosquitto_sub, to look
END
    # The library package's name carries OpenCV's version (406 on Debian 12), which the -dev package knows. To build, the
    # -dev packages bring it.
    [[ $mode == runtime ]] || return 0
    local module
    for module in core imgproc; do
        apt-cache depends "libopencv-$module-dev" 2>/dev/null |
            sed -n "s/^ *Depends: \(libopencv-${module}[0-9][0-9a-z]*\)$/runtime \1/p"
    done
}

# Sets `missing` to what the mode needs and dpkg does not have.
want_packages() {
    local kind name state _
    local -A have=()
    while read -r name state; do
        [[ $state == installed ]] && have[$name]=1
    done < <(dpkg-query -W -f='${Package} ${db:Status-Status}\n')
    missing=()
    while read -r kind name _; do
        [[ $kind == runtime || $mode != runtime ]] || continue
        [[ -n ${have[$name]:-} ]] || missing+=("$name")
    done < <(packages)
}

# Root as it is, or by sudo. Without either, says what an administrator has to type.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "root is needed, and there is no sudo. As root, run:" "  $*" "and then this script again."
    fi
}

apt_install() {
    say "installing ${#*} Debian packages (and what they depend on, without recommendations): $*"
    as_root apt-get update -q
    # RUNLEVEL=1: where no systemd runs, packages then start no service (invoke-rc.d asks for the run level).
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends "$@"
}

# Debian enables and starts mosquitto on installation. The demo and the tests start their own on a free port, so the
# service we brought is kept from starting and left disabled. One that was there before is somebody's and left alone.
install_packages() {
    local quiet_mosquitto=false name
    for name in "$@"; do
        [[ $name == mosquitto && -d /run/systemd/system ]] && quiet_mosquitto=true
    done
    if $quiet_mosquitto; then
        say "keeping the mosquitto service from starting: only its program is wanted"
        as_root systemctl mask --runtime --quiet mosquitto.service
    fi
    apt_install "$@"
    if $quiet_mosquitto; then
        as_root systemctl unmask --runtime --quiet mosquitto.service
        as_root systemctl disable --quiet mosquitto.service
        say "mosquitto.service is installed and disabled; 'systemctl enable --now mosquitto' would make it a system broker"
    fi
}

# ------------------------------------------------------------------------------------------------- ONNX Runtime

library=$library_dir/libonnxruntime.so.$ONNXRUNTIME

library_is_right() { [[ -f $library ]] && sha256sum --status -c <<<"$library_sha256  $library"; }

# The python that has pip: the user's own or the system's. Only `pip download` is used: nothing is installed into it.
find_pip() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
}

install_library() {
    local python
    python=$(find_pip)
    if [[ -z $python ]]; then
        say "pip is missing: it fetches ONNX Runtime's wheel"
        apt_install python3-pip
        python=$(find_pip)
        [[ -n $python ]] || die "python3-pip is installed and 'python3 -m pip' still does not work"
    fi
    say "fetching ONNX Runtime $ONNXRUNTIME ($platform) by pip, about 20 MB, and checking it by SHA-256"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    printf 'onnxruntime==%s --hash=sha256:%s\n' "$ONNXRUNTIME" "$wheel_sha256" >"$scratch/requirements.txt"
    "$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
        --platform "$platform" --python-version 3.11 --implementation cp --dest "$scratch" \
        --requirement "$scratch/requirements.txt" ||
        die "pip could not fetch onnxruntime $ONNXRUNTIME. Is the network there, and is pip's index set up (pip config list)?" \
            "Or put the library of that version at $library yourself."
    "$python" - "$scratch" "$ONNXRUNTIME" <<'END'
import glob, shutil, sys, zipfile
scratch, version = sys.argv[1:]
(wheel,) = glob.glob(scratch + "/*.whl")
with zipfile.ZipFile(wheel) as z:
    for inside, outside in (("capi/libonnxruntime.so." + version, "library"), ("LICENSE", "LICENSE"),
                            ("ThirdPartyNotices.txt", "ThirdPartyNotices.txt")):
        with z.open("onnxruntime/" + inside) as source, open(scratch + "/" + outside, "wb") as target:
            shutil.copyfileobj(source, target)
END
    sha256sum --status -c <<<"$library_sha256  $scratch/library" ||
        die "the library in the wheel is not the one this script was written for: $(sha256sum "$scratch/library")"
    mkdir -p "$library_dir"
    install -m 644 "$scratch/LICENSE" "$scratch/ThirdPartyNotices.txt" "$library_dir/"
    # Into place in one step: a run that is cut short leaves no half library behind.
    install -m 755 "$scratch/library" "$library.new"
    mv -f "$library.new" "$library"
    say "ONNX Runtime $ONNXRUNTIME is at $library"
}

# ------------------------------------------------------------------------------------------------- main

want_packages
if [[ $mode == check ]]; then
    faults=0
    ((${#missing[@]})) && faults=1 && say "missing packages: ${missing[*]}"
    library_is_right || { faults=1 && say "missing or not the pinned one: $library"; }
    ((faults == 0)) && say "everything is there"
    exit "$faults"
fi

did=false
if ((${#missing[@]})); then
    # On a fresh machine apt-cache knows no package names yet: install, then look once more.
    install_packages "${missing[@]}"
    want_packages
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
    did=true
fi
if ! library_is_right; then
    install_library
    did=true
fi
if $did; then say "done"; else say "nothing to do: packages and ONNX Runtime $ONNXRUNTIME are there"; fi
