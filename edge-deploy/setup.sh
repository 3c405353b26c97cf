#!/usr/bin/env bash
# Installs the dependencies of gridwatch on Debian 12 (x86-64 or aarch64). Safe to run again: installed parts are skipped.
#
#   edge-deploy/setup.sh            everything to build, test, run and demo gridwatch (same as --build)
#   edge-deploy/setup.sh --runtime  only what a box needs to run a binary built elsewhere
#   edge-deploy/setup.sh --check    lists what is missing without installing anything; exits 1 if something is missing
#   edge-deploy/setup.sh --list     prints what --runtime installs, for the bill of materials: "package NAME" for each Debian
#                                   package, "onnxruntime VERSION SHA256-OF-LIBRARY SHA256-OF-WHEEL"
#
# It installs Debian packages, listed below with a reason for each, and ONNX Runtime's shared library, which Debian 12 does not
# package, in .cache/ of this checkout (or --onnxruntime-dir DIR). It changes nothing else, leaves no new service enabled, and
# removes nothing.
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
    --build | --runtime | --check | --list) mode=${1#--} ;;
    --onnxruntime-dir)
        library_dir=${2:?--onnxruntime-dir needs a directory}
        shift
        ;;
    -h | --help)
        sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) die "unknown option $1" "see edge-deploy/setup.sh --help" ;;
    esac
    shift
done

# ------------------------------------------------------------------------------------------------- platform

# SHA-256 of the published wheel and of the library in it. A new version needs four new hashes.
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
*) die "unsupported architecture $(uname -m); supported: x86_64, aarch64" ;;
esac

command -v apt-get >/dev/null ||
    die "apt-get not found; on other distributions, install the packages listed in this script (see 'packages') by hand"
distribution=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\).*/\1/p' /etc/os-release 2>/dev/null || true)
case $(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null || true) in
bookworm) ;;
*) say "${distribution:-unknown distribution}: only Debian 12 is tested; continuing" ;;
esac

# ------------------------------------------------------------------------------------------------- packages

# OpenCV component packages only: libopencv-dev pulls in VTK, MPI and desktop libraries for the sake of two modules.
packages() {
    cat <<'END'
runtime  gstreamer1.0-plugins-base   # appsrc, appsink, videoconvert, uridecodebin
runtime  gstreamer1.0-plugins-good   # rtsp, rtp, udp, mp4
runtime  gstreamer1.0-plugins-bad    # h264parse, h265parse, hardware decoders (VA-API, V4L2)
runtime  gstreamer1.0-libav          # software H.264 and H.265 decoders
runtime  ca-certificates             # rtsps and mqtts
runtime  glib-networking             # rtsps: TLS for GLib
build    build-essential             # linker and libc headers
build    pkg-config                  # finds GStreamer
build    clang                       # the opencv crate parses OpenCV's headers with it
build    libclang-dev                # same
build    libgstreamer1.0-dev         # video decoding
build    libgstreamer-plugins-base1.0-dev
build    libgstrtspserver-1.0-dev    # the camera farm of demo, bench and tests
build    libopencv-core-dev          # view health; only these two modules are linked
build    libopencv-imgproc-dev
build    gstreamer1.0-plugins-ugly   # x264enc, for test streams
build    gstreamer1.0-tools          # gst-inspect-1.0, gst-launch-1.0, to inspect camera streams
build    ffmpeg                      # encodes bench clips, and is what bench compares with
build    mosquitto                   # broker for demo and tests, started by them on a free port
build    mosquitto-clients           # mosquitto_sub, for inspection
build    softhsm2                    # a PKCS#11 token in software, for the tests of signing keys in tokens
END
    # The name of the library package contains OpenCV's version (406 on Debian 12), so ask the -dev package for it. In build
    # mode, the -dev packages pull it in.
    [[ $mode == runtime || $mode == list ]] || return 0
    local module
    for module in core imgproc; do
        apt-cache depends "libopencv-$module-dev" 2>/dev/null |
            sed -n "s/^ *Depends: \(libopencv-${module}[0-9][0-9a-z]*\)$/runtime \1/p"
    done
}

# Sets `missing` to the packages that the mode needs and dpkg does not list as installed.
find_missing_packages() {
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

# Runs a command as root, through sudo if necessary. Without sudo, prints the command for an administrator.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "this needs root, and sudo is not installed; run as root:" "  $*" "then run this script again"
    fi
}

apt_install() {
    say "installing ${#*} Debian packages and their dependencies, without recommended packages: $*"
    as_root apt-get update -q
    # RUNLEVEL=1 keeps packages from starting services on systems without systemd (invoke-rc.d checks the run level).
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends "$@"
}

# Debian enables and starts mosquitto on installation. The demo and the tests start their own broker on a free port, so a newly
# installed service is kept from starting and left disabled. An existing installation is not changed.
install_packages() {
    local quiet_mosquitto=false name
    for name in "$@"; do
        [[ $name == mosquitto && -d /run/systemd/system ]] && quiet_mosquitto=true
    done
    if $quiet_mosquitto; then
        say "masking mosquitto.service during installation: only the program is needed"
        as_root systemctl mask --runtime --quiet mosquitto.service
    fi
    apt_install "$@"
    if $quiet_mosquitto; then
        as_root systemctl unmask --runtime --quiet mosquitto.service
        as_root systemctl disable --quiet mosquitto.service
        say "mosquitto.service is installed but disabled; to run it as a system broker: systemctl enable --now mosquitto"
    fi
}

# ------------------------------------------------------------------------------------------------- ONNX Runtime

library=$library_dir/libonnxruntime.so.$ONNXRUNTIME

library_is_right() { [[ -f $library ]] && sha256sum --status -c <<<"$library_sha256  $library"; }

# Finds a Python with pip, the user's or the system's. Only `pip download` is used; nothing is installed into it.
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
        say "pip is missing; it is needed to download ONNX Runtime's wheel"
        apt_install python3-pip
        python=$(find_pip)
        [[ -n $python ]] || die "'python3 -m pip' does not work, although python3-pip is installed"
    fi
    say "downloading ONNX Runtime $ONNXRUNTIME ($platform) with pip, about 20 MB, and verifying its SHA-256"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    printf 'onnxruntime==%s --hash=sha256:%s\n' "$ONNXRUNTIME" "$wheel_sha256" >"$scratch/requirements.txt"
    "$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
        --platform "$platform" --python-version 3.11 --implementation cp --dest "$scratch" \
        --requirement "$scratch/requirements.txt" ||
        die "pip could not download onnxruntime $ONNXRUNTIME; check the network and pip's index (pip config list)" \
            "or place the library of that version at $library yourself"
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
        die "the library in the wheel does not match the pinned SHA-256: $(sha256sum "$scratch/library")"
    mkdir -p "$library_dir"
    install -m 644 "$scratch/LICENSE" "$scratch/ThirdPartyNotices.txt" "$library_dir/"
    # Move it into place atomically, so that an interrupted run leaves no partial library.
    install -m 755 "$scratch/library" "$library.new"
    mv -f "$library.new" "$library"
    say "installed ONNX Runtime $ONNXRUNTIME at $library"
}

# ------------------------------------------------------------------------------------------------- main

if [[ $mode == list ]]; then
    packages | sed -n 's/^runtime *\([^ ]*\).*/package \1/p'
    printf 'onnxruntime %s %s %s\n' "$ONNXRUNTIME" "$library_sha256" "$wheel_sha256"
    exit
fi

find_missing_packages
if [[ $mode == check ]]; then
    faults=0
    ((${#missing[@]})) && faults=1 && say "missing packages: ${missing[*]}"
    library_is_right || { faults=1 && say "missing, or not the pinned version: $library"; }
    ((faults == 0)) && say "everything is installed"
    exit "$faults"
fi

did=false
if ((${#missing[@]})); then
    # On a fresh machine, apt-cache does not know the packages yet: install, then check again.
    install_packages "${missing[@]}"
    find_missing_packages
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
    did=true
fi
if ! library_is_right; then
    install_library
    did=true
fi
if $did; then say "done"; else say "nothing to do: packages and ONNX Runtime $ONNXRUNTIME are installed"; fi
