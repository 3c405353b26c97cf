#!/usr/bin/env bash
# Encodes the clip that `gridwatch-lab bench cameras` serves: 20 s, 1080p25, H.264 High at 4 Mb/s, GOP 50, B-frames as x264
# chooses them. A slow pan over a house front with sensor noise: motion and grain in every frame use up the bitrate, so that
# decoding costs as much as on a real street. Made once, and not kept in the repository (10 MB).
#
#   demo/make_bench_clip.sh OUT.mp4 [PICTURE]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: demo/make_bench_clip.sh OUT.mp4 [PICTURE]}
picture=${2:-$here/assets/facade_488.jpg}
command -v ffmpeg >/dev/null || { echo "make_bench_clip: ffmpeg not found; install it with edge-deploy/setup.sh" >&2; exit 1; }

part=$out.part.mp4
trap 'rm -f "$part"' EXIT
# The pan returns to its start within 20 s, so that the loop has no jump.
ffmpeg -v error -nostdin -y -i "$picture" -an \
    -vf "scale=2304:1296:flags=lanczos:force_original_aspect_ratio=increase,format=yuv420p,loop=loop=-1:size=1,settb=1/25,setpts=N,fps=25,crop=1920:1080:'(iw-ow)/2*(1+sin(2*PI*t/20))':'(ih-oh)/2*(1+cos(2*PI*t/20))',noise=alls=6:allf=t:all_seed=7" \
    -t 20 -r 25 -c:v libx264 -preset veryfast -profile:v high -b:v 4M -maxrate 4M -bufsize 8M \
    -g 50 -keyint_min 50 -sc_threshold 0 -movflags +faststart "$part"
mv -f "$part" "$out"
